"""Environments: planned, linked, swapped in whole, verified and tried."""
