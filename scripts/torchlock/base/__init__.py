"""What images stand on: a Debian built bit for bit from locked packages, or a registry's image by digest."""
