"""Logs of OpenAI's API and of compatible servers."""
