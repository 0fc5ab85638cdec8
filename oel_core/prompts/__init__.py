"""All prompt texts."""
