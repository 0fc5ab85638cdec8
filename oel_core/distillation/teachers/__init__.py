"""Teachers: frozen at the round's start, an exponential moving average, or the live student."""
