"""Chat prompts as token ids and responses as text."""
