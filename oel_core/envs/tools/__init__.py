"""Fictional command-line tools and function-calling APIs whose conventions are to be learnt from use."""
