"""Runs untrusted Python in a limited process; the returned values are compared outside of it.

The process gets an empty environment, an empty folder, 2 s of CPU time, 512 MiB, and an audit hook against files,
processes and the network (`runner`). It never receives the expected values, so the code cannot find them.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).with_name("runner.py")
WALL_SECONDS = 60.0
"""For code that waits instead of computing; long, so that a loaded machine does not decide a score."""
MAX_OUTPUT = 2**16
"""Maximum bytes of returned values."""


class CodeError(Exception):
    """The code returned no values; the message says why."""


def returned_values(code: str, function: str, cases: Sequence[Sequence[Any]]) -> list[Any]:
    """The return values of `function`, defined by `code`, for each case's arguments, as JSON values (tuples are lists).

    Raises:
        CodeError: the code does not define it, raises, exceeds the time, or returns a value that JSON cannot represent.
    """
    task = json.dumps({"code": code, "function": function, "cases": [list(case) for case in cases]})
    with tempfile.TemporaryDirectory(prefix="oel-code-") as folder:
        try:
            ended = subprocess.run(
                [sys.executable, "-I", "-S", "-B", str(RUNNER)],
                input=task.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={},
                timeout=WALL_SECONDS,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise CodeError("it did not end in time") from error
    return _values(ended.stdout, len(cases))


def _values(output: bytes, count: int) -> list[Any]:
    if not output:
        raise CodeError("it was ended by a limit on time or memory")
    if len(output) > MAX_OUTPUT:
        raise CodeError("it returned too much")
    try:
        found = json.loads(output)
    except ValueError as error:
        raise CodeError("it was ended while it answered") from error
    answer = found if isinstance(found, dict) else {}
    values = answer.get("values")
    if not isinstance(values, list) or len(values) != count:
        raise CodeError(str(answer.get("error", "it answered something else")))
    return values
