"""Untrusted text made fit to be shown."""
