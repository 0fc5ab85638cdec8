"""Stages of a round split over two machines: one has the environment, the other one trains."""
