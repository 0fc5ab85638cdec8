"""What can be known before a run starts: checks, needs, models to fetch."""
