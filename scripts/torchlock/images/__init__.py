"""Images as values: from a lock and a base to manifest, config and layers, and what was committed of them."""
