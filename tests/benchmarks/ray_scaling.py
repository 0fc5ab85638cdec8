"""What Ray adds to a run, and how far workers divide its time.

    python -m tests.benchmarks.ray_scaling overhead    # collecting the quickstart's episodes: local, 1 and 2 workers
    python -m tests.benchmarks.ray_scaling simulated   # 64 workers on Ray whose policy sleeps instead of computing
    python -m tests.benchmarks.ray_scaling dispatch    # the same without Ray: threads that sleep

The simulation runs all workers on one machine, with a policy that sleeps instead of computing: it measures the overhead
of the run's own process and of Ray. Its target is 90% of 64 times one worker's speed. The start of the cluster and of
the workers, including the loading of models, is timed separately.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from oel_core.config.run import ModelConfig, OelConfig, load_config
from oel_core.config.sampling import Sampling
from oel_core.config.serving import RunnerConfig
from oel_core.envs.base import EnvSpec
from oel_core.models.threads import use_threads
from oel_core.policies import place_policy, release
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.replicated.dispatch import dispatch
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rollouts.planning import EpisodePlan
from oel_core.rollouts.playing import play_episodes
from oel_core.rollouts.recording import play_into
from oel_core.runs.progress import silent
from oel_core.stages.collect import consolidation_plans, extraction_plans
from oel_core.types import Split
from tests.policies.replicated.workers import ThreadWorker

GROUPS_A_WORKER = 6


class Sleeping(ScriptedPolicy):
    """Answers a batch after so many seconds."""

    def __init__(self, seconds: float, batch_size: int) -> None:
        super().__init__(
            lambda messages, seed: ("[up]", "[down]", "[left]", "[right]")[seed % 4], batch_size=batch_size
        )
        self._seconds = seconds

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        time.sleep(self._seconds)
        return super().generate(requests, sampling)


def load_sleeping(path: str, config: ModelConfig) -> Policy:
    """A policy whose path is the seconds of a batch."""
    return Sleeping(float(path), config.batch_size)


def processor_s() -> float:
    """Processor time of this process and those below it, seconds: of Ray's too, which it has started."""
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))


def overhead(config: OelConfig, runner: RunnerConfig, folder: Path) -> tuple[float, float, float]:
    """Seconds until the first batch could be played, of playing what a round of the preset collects, and the processor
    time of the latter, which other work on the machine stretches less."""
    plans = extraction_plans(config, 1) + consolidation_plans(config, 1)
    began = time.perf_counter()
    policy = place_policy(config.model.path, config.model, runner)
    ready, worked = time.perf_counter(), processor_s()
    play_into(folder / "episodes.jsonl", config, policy, plans, silent)
    ended, worked = time.perf_counter(), processor_s() - worked
    release()
    return ready - began, ended - ready, worked


def simulated(workers: int, seconds: float) -> tuple[float, float]:
    """Seconds until the workers have started, and the speed as a share of `workers` times that of one worker.

    One worker would take at least the sum of all pauses, so it need not be run.
    """
    runner = RunnerConfig(use="ray", workers=workers, cpus=round((os.cpu_count() or 1) / workers / 2, 4))
    config = load_config("quickstart")
    model = config.model.model_copy(update={"path": str(seconds), "batch_size": 4})
    spec = EnvSpec("lake", config.environment.options, max_turns=3)
    began = time.perf_counter()
    policy = place_policy(model.path, model, runner, load_sleeping)
    list(policy.map(_pause, range(4 * workers)))  # type: ignore[attr-defined]
    ready = time.perf_counter()
    count = GROUPS_A_WORKER * workers * model.batch_size
    plans = [EpisodePlan(f"e{n}", n, Split.EXTRACT, 1, 0, n) for n in range(count)]
    episodes = list(play_episodes(policy, spec, plans, config.play, seed=0))
    took = time.perf_counter() - ready
    assert len(episodes) == count
    pauses = sum(
        max(len(episode.turns) for episode in episodes[first : first + model.batch_size])
        for first in range(0, count, model.batch_size)
    )
    release()
    return ready - began, pauses * seconds / workers / took


def dispatched(workers: int, seconds: float) -> float:
    """Speed of `dispatch` with threads that sleep, as a share of `workers` times that of one."""
    began, items = time.perf_counter(), [seconds] * GROUPS_A_WORKER * workers
    count = len(list(dispatch([ThreadWorker() for _ in range(workers)], time.sleep, items)))
    return count * seconds / workers / (time.perf_counter() - began)


def _pause(policy: Policy, _: int) -> None:
    time.sleep(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "simulated", "dispatch"])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one simulated batch")
    arguments = parser.parse_args()
    if arguments.what == "dispatch":
        print(f"{arguments.workers} threads: {dispatched(arguments.workers, arguments.seconds):.1%} of linear")
        return
    if arguments.what == "simulated":
        started, share = simulated(arguments.workers, arguments.seconds)
        print(
            f"{arguments.workers} workers, {arguments.seconds:g} s a batch: ready after {started:.0f} s, "
            f"{share:.1%} of linear"
        )
        return
    config = load_config("quickstart")
    use_threads(config.model)
    for name, runner in (
        ("local", RunnerConfig()),
        *((f"ray, {n} workers", RunnerConfig(use="ray", workers=n)) for n in (1, 2)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            started, played, worked = overhead(config, runner, Path(folder))
        print(
            f"{name}: ready after {started:.1f} s, {played:.1f} s of playing, {worked:.1f} s of processors", flush=True
        )


if __name__ == "__main__":
    main()
