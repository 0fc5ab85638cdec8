"""Logs of OpenAI's API and of servers that speak it."""
