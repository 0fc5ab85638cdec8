"""Backends that answer requests (a policy in this process, another server), and the version that is served."""
