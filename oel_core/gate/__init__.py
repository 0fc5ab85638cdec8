"""The gate: may a candidate replace the champion?"""
