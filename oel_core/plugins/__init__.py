"""The names of components that a configuration can use, and where the code of each lies."""
