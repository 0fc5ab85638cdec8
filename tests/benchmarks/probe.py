"""One contender on one workload in a process of its own: seconds of each update and peak memory, as JSON.

    python -m tests.benchmarks.probe ours '{"knowledge": 512}' --updates 3

`ours` computes the knowledge once per update, `ours-kept` once in all (the second update on finds it cached).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.contender import Contender, Update
from tests.benchmarks.contender_ours import Ours
from tests.benchmarks.measure import peak_memory
from tests.benchmarks.workload import ModelShape, Workload, draw_corpus, save_workload_model

CONTENDERS = ("ours", "ours-kept", "sdft")


@dataclass(frozen=True)
class Probe:
    """What a process found."""

    seconds: tuple[float, ...]
    peak_bytes: int
    """Beyond the loaded models."""


class _Recorded:
    """A contender that remembers its times and, if asked to, forgets its knowledge before each update."""

    def __init__(self, inner: Any, forget: Any) -> None:
        self._inner = inner
        self._forget = forget
        self.seconds: list[float] = []

    def update(self) -> Update:
        self._forget()
        update: Update = self._inner.update()
        self.seconds.append(update.seconds)
        return update

    def gradient(self) -> Any:
        return self._inner.gradient()


def _build(name: str, workload: Workload, folder: Path) -> _Recorded:
    corpus = draw_corpus(workload)
    save_workload_model(workload, folder)
    if name == "sdft":
        from tests.benchmarks.contender_sdft import Sdft

        return _Recorded(Sdft(workload, corpus, folder), lambda: None)
    ours = Ours(workload, corpus, folder)
    return _Recorded(ours, ours.forget if name == "ours" else lambda: None)


def measure_here(name: str, workload: Workload, updates: int) -> Probe:
    """The measurement itself, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        contender: Contender = (recorded := _build(name, workload, Path(folder)))
        peak = peak_memory(contender, updates, workload.device)
    return Probe(tuple(recorded.seconds), peak)


def measure_apart(name: str, workload: Workload, updates: int) -> Probe:
    """The measurement in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.probe", name, json.dumps(asdict(workload))]
    command += ["--updates", str(updates), "--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Probe(tuple(found["seconds"]), found["peak_bytes"])


def read_workload(values: Mapping[str, Any]) -> Workload:
    """A workload from its JSON form."""
    return Workload(**{**values, "shape": ModelShape(**values.get("shape", {}))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("workload", type=json.loads, help="JSON of what differs from the default workload")
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(json.dumps(asdict(measure_here(options.contender, read_workload(options.workload), options.updates))))


if __name__ == "__main__":
    main()
