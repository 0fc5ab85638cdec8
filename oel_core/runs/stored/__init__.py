"""Runs in object stores: objects, index of files, working copy, claim of a run, replication."""
