"""Divergence detection on the step metrics: early stopping and rollback to a checkpoint."""
