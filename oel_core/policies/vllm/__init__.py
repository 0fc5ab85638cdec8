"""The policy that runs vLLM in this process."""
