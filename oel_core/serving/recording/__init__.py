"""Records answered requests and feedback as episodes in the inbox."""
