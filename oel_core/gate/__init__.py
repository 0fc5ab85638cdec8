"""The promotion gate: compares a candidate with the champion."""
