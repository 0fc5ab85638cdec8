"""Everything that depends on what a third party keeps private or does as a side effect, one module a library."""
