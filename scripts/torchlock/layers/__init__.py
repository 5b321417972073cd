"""Layers: one tar of an image as a function of wheels alone, and any tar of an image read strictly."""
