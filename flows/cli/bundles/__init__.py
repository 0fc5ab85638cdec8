"""Commands of the two sides: knowledge without training here, training without the environment there."""
