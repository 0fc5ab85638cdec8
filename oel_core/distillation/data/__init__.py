"""The samples of a distillation's steps."""
