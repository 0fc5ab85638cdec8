"""Removes recorded conversations from inboxes and runs, and lists the knowledge and models derived from them."""
