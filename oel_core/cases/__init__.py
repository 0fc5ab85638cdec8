"""Cases: held-out requests of recorded sessions, what is known about their right answers, and scorers for them."""
