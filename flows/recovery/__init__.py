"""Recovery of flow runs after kills, cancellations and server outages."""
