"""Whether a distillation stays within its bounds, and what happens when it does not."""
