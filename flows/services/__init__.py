"""Long-running services: Prefect server, MLflow server and workers, managed by `oel up` and `oel down`.

Their data, logs and state are under one run root, in `<root>/.oel`.
"""
