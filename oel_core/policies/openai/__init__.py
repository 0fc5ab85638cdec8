"""The policy behind a server of the OpenAI API."""
