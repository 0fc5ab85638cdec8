"""Episodes: planned, played, recorded."""
