"""Plans, plays and records episodes."""
