"""Models on disk and in memory: checkpoints, loading, sizes."""
