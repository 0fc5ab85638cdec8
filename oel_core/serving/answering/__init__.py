"""What answers requests: a policy in this process, or another server; and which version of the model does."""
