"""Wheels, read strictly."""
