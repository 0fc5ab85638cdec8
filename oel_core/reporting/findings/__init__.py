"""What a report says about a run, read from its files."""
