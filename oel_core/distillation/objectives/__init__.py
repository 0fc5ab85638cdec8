"""What a distillation minimises."""
