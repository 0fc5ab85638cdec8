"""Tracking with MLflow: experiments, the model registry, datasets."""
