"""Container registries (OCI distribution specification 1.1): references, credentials, push, pull and referrers."""
