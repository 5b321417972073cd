"""torchlock: reproducible PyTorch + NumPy environments, from one short profile to a verified one."""
