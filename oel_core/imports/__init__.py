"""Other people's logs as episodes of an inbox. `oel_core.imports.importing` is the way in."""
