"""The checks that `smoke.py` runs inside an environment: standard library, numpy and torch only."""
