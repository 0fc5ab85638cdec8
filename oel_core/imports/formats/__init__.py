"""One module per log format; `oel_core.plugins.builtin.LOG_FORMATS` lists them by name."""
