"""Checks, resource estimates and model downloads before a run."""
