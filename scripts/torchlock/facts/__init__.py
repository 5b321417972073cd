"""Facts: what an artifact's own bytes say of the NumPy, CUDA and C libraries that it was built for."""
