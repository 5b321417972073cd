"""OCI images as values and files: descriptors, manifests, blobs by digest, and the layout that holds them."""
