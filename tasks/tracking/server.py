"""`python -m tasks.tracking.server OPTIONS`: `mlflow server` on a database of this MLflow's version.

MLflow's server refuses a database of an older version unless tables are missing from it. So it is migrated first, with
the address from `MLFLOW_BACKEND_STORE_URI`, since command lines are visible to all users.
"""

import os
import sys

from tasks.tracking.client import run_server

if __name__ == "__main__":
    run_server(os.environ["MLFLOW_BACKEND_STORE_URI"], sys.argv[1:])
