"""A study: one preset in several arms and with several loop seeds; runs share stages with equal keys.

arms.py      what the arms change, and which of them are compared
plan.py      from a preset to the runs of a study
sharing.py   a run folder that takes over what a sibling has finished with the same key
work.py      one run, stage by stage
results.py   what was measured, from the files of the runs
tables.py    rows with intervals, as Markdown
plots.py     the same as pictures
"""
