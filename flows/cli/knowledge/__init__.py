"""Commands about a run's knowledge and results."""
