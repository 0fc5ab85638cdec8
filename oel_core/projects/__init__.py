"""Recurring rounds of a project: settings, inbox, triggers, reviews."""
