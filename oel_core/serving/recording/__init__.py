"""From answered requests and feedback to episodes of the inbox."""
