"""Commands for rounds that are split over two machines: one has the environment, the other one trains."""
