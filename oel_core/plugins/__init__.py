"""The names of components that a configuration can use, and the location of each component's code."""
