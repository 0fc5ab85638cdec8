"""Checkpoints, model loading, model sizes."""
