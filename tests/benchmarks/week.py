"""A week compressed: recurring rounds back to back under the real servers and worker, and what grows meanwhile.

    python -m tests.benchmarks.week --rounds 30

The preset is the tests' shortest (a random model of a few thousand weights), so nearly all the time is what a round
costs without its learning: Prefect's worker, a fresh process with its imports, the stages' files, MLflow, the registry.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from flows.services.process import started
from oel_core.runs.groups import group_members
from oel_core.types import Record
from tests.benchmarks import report
from tests.e2e.loop import short_config
from tests.e2e.operating import Services, copy_source
from tests.e2e.sweep import swept
from tests.fakes import tiny_model_folder

MIB = 2**20


class Row(Record):
    """After one round."""

    round: int
    seconds: float
    """From the trigger to the end of the flow run, by the wall clock."""
    prefect_db: float
    """MiB, as are the following ones."""
    mlflow_db: float
    artifacts: float
    project: float
    prefect_memory: float
    """Resident memory of all processes of the service."""
    mlflow_memory: float
    worker_memory: float


def size(*paths: Path) -> float:
    """MiB of files and folders; those that are not there count for nothing."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files) / MIB


def database(path: Path) -> float:
    """With its write-ahead log."""
    return size(path, path.with_name(f"{path.name}-wal"))


def memory(root: Path, name: str) -> float:
    """MiB that the processes of a service hold."""
    kib = 0
    for one in started(root):
        members = group_members(one.process.pid) if one.name == name else []
        for pid in members:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            kib += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kib / 1024


def one_round(services: Services, index: int) -> Row:
    """Triggers a round and waits for its end; fails with the logs when it does not complete."""
    began = time.monotonic()
    ended = services.ended(services.project("week").trigger(f"t{index}"))
    seconds = time.monotonic() - began
    if ended["type"] != "COMPLETED":
        raise SystemExit(f"round {index}: {ended}\n{services.logs()}")
    root = services.root
    return Row(
        round=index,
        seconds=seconds,
        prefect_db=database(root / ".prefect" / "prefect.db"),
        mlflow_db=database(root / "mlflow.db"),
        artifacts=size(root / "mlartifacts"),
        project=size(root / "week"),
        prefect_memory=memory(root, "prefect"),
        mlflow_memory=memory(root, "mlflow"),
        worker_memory=memory(root, "oel-cpu"),
    )


def table(rows: list[Row]) -> str:
    """Every fifth round and the last one, in Markdown."""
    shown = [row for row in rows if row.round == 1 or row.round % 5 == 0 or row is rows[-1]]
    head = ["round", "s", "prefect.db", "mlflow.db", "mlartifacts", "project", "Prefect", "MLflow", "worker"]
    cells = [[f"{value:.1f}" for name, value in row.model_dump().items() if name != "round"] for row in shown]
    grid = report.table(head, [[row.round, *values] for row, values in zip(shown, cells, strict=True)])
    third = max(1, len(rows) // 3)
    first, last = ([row.seconds for row in part] for part in (rows[:third], rows[-third:]))
    summary = (
        f"Seconds a round, median: {statistics.median(first):.1f} in the first third ({min(first):.1f} to "
        f"{max(first):.1f}), {statistics.median(last):.1f} in the last ({min(last):.1f} to {max(last):.1f}). "
        "Sizes and memory in MiB."
    )
    return f"{grid}\n\n{summary}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        copy_source(home, short_config(tiny_model_folder(Path(folder)), rounds=1))
        services = Services(home)
        services.root.mkdir()
        with swept(services.root):
            services.remember_ports()
            services.up()
            services.oel("deploy")
            rows = []
            for index in range(1, options.rounds + 1):
                rows.append(one_round(services, index))
                print(f"round {index}: {rows[-1].seconds:.1f} s", flush=True)
            services.oel("down")
            print(table(rows))


if __name__ == "__main__":
    main()
