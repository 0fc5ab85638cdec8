"""The commands of `oel`. Heavy imports are inside the functions, so that `oel --help` is fast."""
