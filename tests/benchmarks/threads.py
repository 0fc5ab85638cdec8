"""Episodes with torch's own threads and with the chosen ones, alone and beside busy neighbours, as ratios.

    python -m tests.benchmarks.threads --episodes 20 --repeats 3

The quickstart's world and the embedded model. Each time is a fresh process, because OpenMP reads its settings when
torch is imported. "before" leaves the number of threads to torch, and they spin while they wait (an empty
`OMP_WAIT_POLICY` keeps libgomp's default); "after" is what `model.threads` chooses, and threads that sleep. The order
alternates.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PLAY = """
import sys, time
from oel_core.config.run import load_config
from oel_core.envs.base import env_spec
from oel_core.policies import load_policy
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.models.threads import use_threads
from oel_core.types import Split
config = load_config("quickstart")
if sys.argv[2] == "after":
    use_threads(config.model)
policy = load_policy(config.model.path, config.model)
plans = plan_episodes(env_spec(config), config.seed, Split.EXTRACT, 1, 0, int(sys.argv[1]), True)
began = time.perf_counter()
assert list(play_episodes(policy, env_spec(config), plans, config.play, seed=config.seed))
print(time.perf_counter() - began)
"""


def seconds(episodes: int, side: str) -> float:
    """Of the episodes alone, without imports and loading."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    if side == "before":
        own["OMP_WAIT_POLICY"] = ""
    command = [sys.executable, "-c", _PLAY, str(episodes), side]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _spin() -> None:
    while True:
        pass


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that compute all the time."""
    busy = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} before the first, {os.cpu_count()} cores")
    print("| neighbours | before, s | after, s | before / after |\n|---|---|---|---|")
    for count in (0, 2):
        times: dict[str, list[float]] = {"before": [], "after": []}
        with neighbours(count):
            for repeat in range(options.repeats):
                for side in ("before", "after") if repeat % 2 else ("after", "before"):
                    times[side].append(seconds(options.episodes, side))
        before, after = (statistics.median(times[side]) for side in ("before", "after"))
        spread = [f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in times.values()]
        print(f"| {count} | {spread[0]} | {spread[1]} | {before / after:.2f} |")


if __name__ == "__main__":
    main()
