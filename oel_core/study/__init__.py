"""A study: one preset in several arms and with several loop seeds; runs share stages with equal keys.

arms.py      the arms' settings, and the comparisons
plan.py      from a preset to the runs of a study
sharing.py   a run folder that reuses a sibling's finished stages with the same key
work.py      one run, stage by stage
results.py   metrics, from the files of the runs
tables.py    rows with intervals, as Markdown
plots.py     the same as pictures
"""
