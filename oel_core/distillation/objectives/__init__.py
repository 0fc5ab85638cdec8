"""Objectives and additional loss terms."""
