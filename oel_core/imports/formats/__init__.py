"""One module a log format; `oel_core.plugins.builtin.LOG_FORMATS` lists them by name."""
