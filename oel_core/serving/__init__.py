"""The gateway: an OpenAI-compatible server for a project's champion that records requests and answers."""
