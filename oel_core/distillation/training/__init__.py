"""The training of one round: job, trainer, optimiser steps, checkpoints."""
