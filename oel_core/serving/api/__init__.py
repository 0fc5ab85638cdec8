"""HTTP: requests, answers, errors, limits, metrics."""
