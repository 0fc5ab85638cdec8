"""The appearance of a report: one HTML file."""
