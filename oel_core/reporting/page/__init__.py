"""How a report looks: one HTML file."""
