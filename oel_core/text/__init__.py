"""Makes untrusted text safe to display."""
