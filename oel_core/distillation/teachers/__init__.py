"""Teachers: frozen at the round's start, or moving with the student."""
