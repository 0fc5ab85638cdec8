"""`python -m tests.scale.on_this_machine FOLDER local|ray [ADDRESS SECONDS]`: plays episodes with the runner.

Without an address `ray` has a cluster of its own, and prints whether a process with another token could connect to it.
SECONDS are those of a batch.
"""

import os
import subprocess
import sys
from pathlib import Path

from oel_core.config.run import load_config
from oel_core.config.serving import RunnerConfig
from oel_core.policies import place_policy, release
from oel_core.rollouts.recording import play_into
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.progress import silent
from oel_core.stages.collect import extraction_plans
from oel_core.types import Trajectory
from tests.benchmarks.ray_scaling import load_sleeping
from tests.builders import timeless

INTRUDER = "import ray, sys; ray.init(address=sys.argv[1], namespace='other', log_to_driver=False)"


def main() -> None:
    folder, use, *rest = sys.argv[1:]
    address, seconds = rest or ("local", "0.01")
    changes = [f"model.path={seconds}", "model.batch_size=4", "collect.replicas=4", "collect.extraction_episodes=4"]
    config = load_config("quickstart", changes)
    runner = RunnerConfig.model_validate(
        {"use": use, "workers": 2, "cpus": 0.5 if address == "local" else 1.0, "address": address}
    )
    policy = place_policy(config.model.path, config.model, runner, load_sleeping)
    play_into(Path(folder) / "episodes.jsonl", config, policy, extraction_plans(config, 1), silent)
    if use == "ray" and address == "local":
        import ray

        address = ray.get_runtime_context().gcs_address
        environment = os.environ | {"RAY_AUTH_TOKEN": "0" * 64}
        command = [sys.executable, "-c", INTRUDER, address]
        refused = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300).returncode
        print("refused" if refused else "let in")
    release()


def played(folder: Path) -> list[Trajectory]:
    """The episodes in a folder, without times."""
    return timeless(read_jsonl(folder / "episodes.jsonl", Trajectory))


if __name__ == "__main__":
    main()
