"""A disk that is full while a distillation writes: a message, nothing half-written, and the same bytes afterwards.

The system's limit on the size of a file stands in for the disk: writes fail in the middle, as they do there.
"""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from oel_core.distillation.training import run
from oel_core.distillation.training.run import distill
from oel_core.errors import ArtifactError
from oel_core.models.saving import save_model
from oel_core.runs.files import is_full, writing
from tasks.retries import can_help
from tests.distillation.builders import arguments
from tests.distillation.training.test_run import files, lines
from tests.fakes import byte_tokenizer, tiny_model, tiny_model_folder

LIMIT = 40_000
"""Bytes: less than the tiny model's weights, more than its step log."""


@contextmanager
def limits_restored() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit(size: int) -> None:
    """No file can grow beyond so many bytes from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    distill(**arguments(start, workdir))
    return workdir


def goes_on(start, workdir, undisturbed):
    distill(**arguments(start, workdir))
    assert lines(workdir) == lines(undisturbed)
    assert files(workdir / "checkpoint") == files(undisturbed / "checkpoint")


def test_a_resumable_checkpoint_that_does_not_fit_leaves_the_one_before(start, tmp_path, undisturbed):
    def fill(record):
        if record.step == 4:
            limit(LIMIT)

    with (
        limits_restored(),
        pytest.raises(ArtifactError, match=r"step_00004\.tmp cannot be written, the disk is full .*same command"),
    ):
        distill(**arguments(start, tmp_path), on_step=fill)
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["step_00002"]
    goes_on(start, tmp_path, undisturbed)


def test_new_weights_that_do_not_fit_leave_the_last_checkpoint(start, tmp_path, undisturbed, monkeypatch):
    def fill(*given, **named):
        limit(LIMIT)
        save(*given, **named)

    save = run.save_model
    monkeypatch.setattr(run, "save_model", fill)
    with limits_restored(), pytest.raises(ArtifactError, match=r"checkpoint.* cannot be written, the disk is full"):
        distill(**arguments(start, tmp_path))
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs.json", "resume", "steps.jsonl"]
    goes_on(start, tmp_path, undisturbed)


def test_a_step_that_is_logged_by_half_is_done_again(start, tmp_path, undisturbed):
    log = tmp_path / "steps.jsonl"

    def fill(record):
        if record.step == 3:
            limit(log.stat().st_size + 50)

    with limits_restored(), pytest.raises(ArtifactError, match=r"steps\.jsonl cannot be written, the disk is full"):
        distill(**arguments(start, tmp_path), on_step=fill)
    assert not log.read_bytes().endswith(b"\n")
    goes_on(start, tmp_path, undisturbed)


def test_a_model_that_does_not_fit_replaces_nothing(start, tmp_path):
    before = files(start)
    other = tiny_model(1)
    with limits_restored():
        limit(LIMIT)
        with pytest.raises(ArtifactError, match="the disk is full"):
            save_model(other, byte_tokenizer(), start)
    assert files(start) == before
    assert [path.name for path in start.parent.iterdir()] == ["tiny"]


def test_what_is_full_is_told_by_number_or_in_words_and_tried_again_by_nobody(tmp_path):
    assert is_full(OSError(errno.ENOSPC, "x"))
    assert is_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_full(OSError(errno.EACCES, "x"))
    assert not is_full(RuntimeError("28"))
    with pytest.raises(PermissionError), writing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "x")
    with pytest.raises(ArtifactError) as caught, writing(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "x")
    assert not can_help(caught.value)
