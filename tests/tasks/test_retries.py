"""When a stage is tried again."""

import pytest
import torch

from oel_core.errors import ArtifactError, ConfigError, DistillationError, ExtractionError, PolicyError
from tasks.retries import can_help


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("x"),
        ArtifactError("x"),
        ExtractionError("x"),
        DistillationError("loss is NaN"),
        MemoryError(),
        torch.OutOfMemoryError("x"),
        caused(PolicyError("cannot generate"), torch.OutOfMemoryError("x")),
        PolicyError("CUDA error: out of memory"),
        caused(OSError("x"), ConfigError("x")),
        TypeError("a bug"),
        ValueError("a bug"),
    ],
)
def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    assert not can_help(error)


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("x"), OSError(28, "disk"), PolicyError("server did not answer"), TimeoutError()],
)
def test_hiccups_are_tried_again(error: Exception) -> None:
    assert can_help(error)


def test_a_tracking_server_that_does_not_answer_is_tried_again() -> None:
    from requests.exceptions import ConnectionError as RequestsError

    assert can_help(RequestsError("refused"))
