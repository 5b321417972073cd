"""End-to-end proofs: clones of the project, real wheels, real installers, an emulated machine."""
