"""Lists the contents of a run root and removes unneeded files."""
