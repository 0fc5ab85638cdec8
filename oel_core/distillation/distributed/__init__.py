"""Distillation in several processes: data parallel and FSDP2."""
