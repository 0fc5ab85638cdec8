"""Bundles: a round's knowledge and prompts, exported for distillation on another machine.

A bundle is a zip archive of knowledge files and the prompts of collected turns, or of knowledge alone. It contains no
responses to these prompts, rewards, feedback, ids, or names of models and environment; private data is masked.
"""
