"""Prefect tasks: each checks the manifest, calls oel_core once, and tracks the result.

Importing this package turns off the telemetry of the libraries below, before any of them is imported.
"""

import os

for name, value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(name, value)
