"""One round as files: where it starts from, its episodes, its knowledge, its review."""
