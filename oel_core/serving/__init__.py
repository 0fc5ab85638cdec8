"""The gateway: an OpenAI-compatible server in front of a project's champion, which records what it answers."""
