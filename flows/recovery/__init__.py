"""Flow runs that were killed, cancelled or cut off from their server."""
