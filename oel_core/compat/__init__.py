"""Uses of private parts or import side effects of third-party libraries, one module per library."""
