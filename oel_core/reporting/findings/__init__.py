"""The contents of a report, read from the files of a run."""
