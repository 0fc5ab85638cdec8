"""The commands of `oel`, one noun a file. Heavy imports happen inside the functions: `oel --help` must be quick."""
