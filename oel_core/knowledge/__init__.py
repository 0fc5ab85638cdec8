"""Experiential knowledge: extraction, merging, selection, hygiene."""
