"""Machines that share a store: each has its own cache, and so its own working copy of a run root."""

from pathlib import Path

import pytest

from oel_core.config.run import OelConfig, load_config
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from oel_core.runs.manifest import Manifest
from oel_core.runs.stored.working_copy import working_copy

TEXT, WEIGHTS = b'{"text": "one"}\n', b"w" * 4096


class Machine:
    """A machine on which runs of one store are worked on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path, url: str) -> None:
        self.url = url
        self.played: list[str] = []
        """Stages whose work was done here."""
        with monkeypatch.context() as here:
            here.setenv("OEL_CACHE", str(cache))
            self.root = working_copy(url)

    def run(self, name: str = "lake") -> RunFolder:
        return open_run(self.root, name)

    def stage(self, round_index: int, name: str, run: RunFolder | None = None) -> Manifest:
        """Finishes a stage; the run must be leased."""
        run = run or self.run()

        def work(folder: Path) -> dict[str, float]:
            self.played.append(f"{round_index} {name}")
            (folder / "episodes.jsonl").write_bytes(TEXT)
            (folder / "checkpoint").mkdir(exist_ok=True)
            (folder / "checkpoint" / "model.safetensors").write_bytes(WEIGHTS)
            return {"episodes": 1}

        return run.perform(stage_key(config(), round_index, name, ["seed"], {}), work)

    def learn(self, *rounds: int) -> RunFolder:
        """Opens the run, and distils and evaluates these rounds."""
        run = self.run()
        with run.leased("test"):
            adopt_config(run, config())
            for index in rounds:
                self.stage(index, "distill")
                self.stage(index, "evaluate/held_out")
        return run


def config() -> OelConfig:
    return load_config("tiny", ["rounds=2"])


def files(folder: Path) -> dict[str, bytes]:
    """Path → content of all files of a run that are not of one machine."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
