"""`oel logs`: prints the logs of a project's flow runs and of services."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer

from flows.cli import complete
from flows.cli.shared import RUNS, AsJson, Root, out, print_json

POLL_S = 0.5


def logs(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A project, or prefect, mlflow, oel-cpu, oel-gpu.", autocompletion=complete.run_names
        ),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more lines, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option(min=0, help="Number of last lines to show.")] = 50,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Print the log of a project's flow runs or of a service."""
    path = log_of(root, name)
    with path.open(encoding="utf-8", errors="replace") as log:
        for line in deque(log, maxlen=lines):
            _print(line, as_json)
        try:
            for line in _more(log) if follow else ():
                _print(line, as_json)
        except KeyboardInterrupt:
            return


def log_of(root: Path, name: str) -> Path:
    """The log of a project or service under a root.

    Raises:
        ConfigError: there is none; the message lists the existing ones.
    """
    from flows.services.process import log_path
    from oel_core.errors import ConfigError

    folder = log_path(root, "any").parent
    known = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if name not in known:
        there = f"there are {', '.join(known)}" if known else f"{folder} is empty"
        raise ConfigError(
            f"no log of '{name}' under {root}: {there}. What workers run writes there; `oel run` writes to its terminal"
        )
    return known[name]


def _more(log: TextIO) -> Iterator[str]:
    """New lines, each once it is complete."""
    begun = ""
    while True:
        begun += log.readline()
        if begun.endswith("\n"):
            yield begun
            begun = ""
        else:
            time.sleep(POLL_S)


def _print(line: str, as_json: bool) -> None:
    text = line.rstrip("\n")
    if as_json:
        print_json([{"line": text}])
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)
