"""The training loop of one round: job, trainer, optimizer steps, checkpoints."""
