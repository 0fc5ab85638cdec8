"""The long-running side: Prefect server, MLflow server and workers, started, watched and ended by `oel up` and down.

Their data, logs and state lie under one run root, in `<root>/.oel`.
"""
