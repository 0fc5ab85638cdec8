"""Sessions are anonymised on workers as in one process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from oel_core.config.serving import LOCAL_RUNNER, RunnerConfig
from oel_core.errors import PolicyError
from oel_core.imports import importing
from oel_core.imports.importing import PRIVATE, Import, Imported, import_logs
from oel_core.imports.privacy import SALT, Privacy
from oel_core.policies.replicated import ray_workers
from tests.imports.test_importing import CHAT, SECRETS, log, logged, secretive, written
from tests.policies.replicated.workers import FakeWorker

RAY = RunnerConfig(use="ray")
Run = Callable[[str, RunnerConfig, Privacy], tuple[Imported, bytes]]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorker]:
    """Of the runner; each is lost with its first batch."""
    found = [FakeWorker(lost={0}), FakeWorker(lost={0})]
    monkeypatch.setattr(ray_workers, "start_workers", lambda runner: found)
    monkeypatch.setattr(importing, "BATCH", 2)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    source = log(
        tmp_path / "log.jsonl", *(logged(f"c{n}", f"{n} {SECRETS[n % 5]}", "b") for n in range(10)), secretive()
    )

    def run(name: str, runner: RunnerConfig, privacy: Privacy) -> tuple[Imported, bytes]:
        """What the import counted, and its file; the inboxes have the same salt."""
        inbox = tmp_path / name
        inbox.mkdir(exist_ok=True)
        (inbox / SALT).write_bytes(b"0" * 32)
        done = import_logs(Import(CHAT, source, inbox, "shop", privacy, runner=runner))
        return done, (inbox / done.file).read_bytes() if done.file else b""

    return run


@pytest.mark.parametrize("privacy", Privacy)
def test_the_file_has_the_same_bytes(workers: list[FakeWorker], run: Run, tmp_path: Path, privacy: Privacy) -> None:
    local, expected = run("local", LOCAL_RUNNER, privacy)
    done, found = run("ray", RAY, privacy)
    assert (found, done) == (expected, local)
    assert done.dropped[PRIVATE] == (9 if privacy is Privacy.DROP else 0), "a password is one by its field only"
    if privacy is not Privacy.KEEP:
        assert not [secret for secret in SECRETS[:4] if secret in written(tmp_path / "ray")]
    assert sum(worker.calls for worker in workers) == 6 + 2, "six batches, two of them twice"
    assert all(worker.closed for worker in workers)
    assert run("ray", RAY, privacy)[0].file is None


def test_an_import_without_workers_writes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = FakeWorker(lost=range(9))
    monkeypatch.setattr(ray_workers, "start_workers", lambda runner: [dead])
    with pytest.raises(PolicyError, match="was lost with 4 workers in a row"):
        run("ray", RAY, Privacy.MASK)
    assert dead.closed
    assert not [path for path in (tmp_path / "ray").iterdir() if path.suffix in (".jsonl", ".partial")]
    assert run("ray", LOCAL_RUNNER, Privacy.MASK)[0].episodes == 11
