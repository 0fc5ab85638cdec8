"""Removal of recorded conversations: whose they are, where they lie, and what was learned from them."""
