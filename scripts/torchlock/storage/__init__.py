"""The store: verified wheels by digest, packed and unpacked, and how they get there."""
