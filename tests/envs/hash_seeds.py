"""Running a program under two orders of Python's sets."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def seen_under_two_hash_seeds(program: str, caches: Path) -> list[Any]:
    """The JSON on the last line that `program` prints, with a hash seed and a cache of its own each time."""
    seen = []
    for hash_seed in ("1", "2"):
        variables = {**os.environ, "PYTHONHASHSEED": hash_seed, "OEL_CACHE": str(caches / hash_seed)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True
        )
        seen.append(json.loads(done.stdout.splitlines()[-1]))
    return seen
