"""One policy in several workers, each with its own copy."""
