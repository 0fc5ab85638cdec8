"""Which errors are retried: transient faults of disk, network or servers. A retry resumes from the files on disk."""

from typing import Any

from oel_core.errors import (
    ArtifactError,
    ConfigError,
    DistillationError,
    EnvironmentError_,
    ExtractionError,
    PolicyError,
)

NEVER = (ConfigError, ArtifactError, ExtractionError, DistillationError, MemoryError)
HICCUPS = (OSError, EnvironmentError_, PolicyError)
SERVICES = ("mlflow", "sqlalchemy", "requests", "urllib3", "httpx", "httpcore")
"""Packages whose exceptions mean that a service is unavailable."""


def can_help(error: BaseException) -> bool:
    """Whether a retry may succeed. Never for invalid settings, files or inputs, or out-of-memory."""
    chain = causes(error)
    if any(isinstance(link, NEVER) or _out_of_memory(link) for link in chain):
        return False
    return any(isinstance(link, HICCUPS) or type(link).__module__.split(".")[0] in SERVICES for link in chain)


def worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """`can_help` as Prefect's `retry_condition_fn`."""
    try:
        state.result()
    except Exception as error:
        return can_help(error)
    return False


def causes(error: BaseException | None) -> list[BaseException]:
    """The error and its chain of causes, outermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _out_of_memory(error: BaseException) -> bool:
    """Recognises torch's error by class name, to avoid the import, and older drivers' errors by message."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OutOfMemoryError" in names or "out of memory" in str(error).lower()
