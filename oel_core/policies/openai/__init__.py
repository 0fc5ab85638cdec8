"""The policy for servers with the OpenAI API."""
