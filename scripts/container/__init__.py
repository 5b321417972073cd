"""What runs inside an image: its entry point, and what it says of itself; standard library and Python 3.10 only."""
