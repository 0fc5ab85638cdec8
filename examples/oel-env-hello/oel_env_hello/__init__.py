"""An environment for oel in a package of its own."""
