"""Markdown pages that flows leave in the Prefect UI."""
