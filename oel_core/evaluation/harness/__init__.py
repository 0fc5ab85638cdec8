"""Suites of lm-evaluation-harness."""
