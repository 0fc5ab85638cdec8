"""The value of `--root`: a folder, or for some commands the URL of an object store."""

from pathlib import Path

import typer

from oel_core.errors import ConfigError

STORED = "run, runs, rounds, report, knowledge, clean, compact and forget"
"""The commands that accept a URL."""


def local_root(value: str | Path) -> Path:
    """A folder. Raises BadParameter for a URL."""
    if "://" in str(value):
        raise typer.BadParameter(f"this command needs a folder; {STORED} accept the address of a store")
    return Path(value)


def any_root(value: str | Path) -> Path:
    """A folder; of a store its working copy. Raises BadParameter for an invalid URL."""
    if "://" not in str(value):
        return Path(value)
    from oel_core.runs.stored.working_copy import working_copy

    try:
        return working_copy(str(value))
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
