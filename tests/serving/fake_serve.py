"""`python -m tests.serving.fake_serve --port PORT --served-model-name NAME ...`: in the place of `vllm serve`.

It gives no token ids, and so starts without the libraries that would make them.
"""

import argparse
import os
from pathlib import Path

import uvicorn

from tests.serving.model_server import ModelServer

NOTES = "OEL_TEST_SERVERS"
"""Environment variable: the folder in which each server makes a file named after its process."""
DELAY_S = 0.1
"""Before an answer: requests sent together need a connection each."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name")
    options, _ = parser.parse_known_args()
    (Path(os.environ[NOTES]) / str(os.getpid())).touch()
    app = ModelServer(delay_s=DELAY_S, gives_ids=False, model=options.served_model_name).app()
    uvicorn.run(app, port=options.port, log_level="warning", access_log=False)
