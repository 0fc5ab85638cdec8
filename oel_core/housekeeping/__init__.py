"""What lies under a run root, and what of it can go."""
