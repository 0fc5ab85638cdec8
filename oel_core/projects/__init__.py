"""A project of recurring rounds: its settings, inbox, triggers, reviews and runs."""
