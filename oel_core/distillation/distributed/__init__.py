"""One distillation shared by several processes."""
