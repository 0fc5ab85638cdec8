"""Stages of a round that two machines share: one has the environment, the other one trains."""
