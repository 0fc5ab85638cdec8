"""Fictional command-line tools and function-calling APIs whose conventions must be learnt by using them."""
