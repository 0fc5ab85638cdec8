"""Bundles: what of a round leaves the machine with the environment, for another machine to distil.

A bundle is one zip archive with knowledge files and the prompts of collected turns, or knowledge alone. It has no
answers of the last turn, rewards, feedback, ids, names of models or of the environment, and private data is masked.
"""
