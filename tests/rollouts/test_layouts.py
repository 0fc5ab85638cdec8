"""Layout keys: cached, of environments that are slow to create in parallel, with the same result anywhere."""

from collections.abc import Sequence
from typing import ClassVar

import pytest

from oel_core import envs, policies
from oel_core.config.serving import RunnerConfig
from oel_core.envs.base import EnvSpec
from oel_core.errors import EnvironmentError_
from oel_core.rollouts import layouts
from oel_core.rollouts.layouts import layouts_of
from oel_core.rollouts.planning import count_layouts, plan_episodes
from oel_core.types import Split
from tests.fakes import CorridorEnv
from tests.policies.replicated.workers import FakeWorker

RAY = RunnerConfig(use="ray")
SPEC = EnvSpec("slow")


class SlowEnv(CorridorEnv):
    """Some seeds cannot be created."""

    made: ClassVar[list[int]] = []
    prepared: ClassVar[list[list[int]]] = []

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        super().__init__(spec, seed)
        self.made.append(seed)
        if seed % 5 == 0:
            raise EnvironmentError_("no game")
        self.layout = f"slow-{seed % 100}"

    @classmethod
    def prepare(cls, spec: EnvSpec, seeds: Sequence[int], workers: int) -> None:
        cls.prepared.append(list(seeds))
        if any(seed % 5 == 0 for seed in seeds):
            raise EnvironmentError_("no game")


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorker]:
    """The workers of the runner; one is lost with its first batch."""
    monkeypatch.setitem(envs.REGISTRY, "slow", f"{__name__}:SlowEnv")
    monkeypatch.setattr(layouts, "_cached", {})
    found = [FakeWorker(lost={0}), FakeWorker()]
    monkeypatch.setattr(policies, "_workers", {RAY.model_dump_json(): found})
    SlowEnv.made.clear()
    SlowEnv.prepared.clear()
    return found


def expected(seeds: Sequence[int]) -> list[str | None]:
    return [None if seed % 5 == 0 else f"slow-{seed % 100}" for seed in seeds]


def test_workers_create_what_is_missing(workers: list[FakeWorker]) -> None:
    seeds = [*range(30), *range(10)]
    assert layouts_of(SPEC, [1, 2], RAY) == ["slow-1", "slow-2"]
    assert layouts_of(SPEC, seeds, RAY) == expected(seeds)
    calls = sum(worker.calls for worker in workers)
    assert calls == 1 + 4 + 1, "one batch, then four of at most eight seeds, and one again"
    assert layouts_of(SPEC, seeds, RAY) == expected(seeds)
    assert sum(worker.calls for worker in workers) == calls
    assert not SlowEnv.prepared


def test_one_process_prepares_them_together() -> None:
    assert layouts_of(SPEC, range(1, 12)) == expected(range(1, 12))
    assert SlowEnv.prepared == [list(range(1, 12))]
    assert sorted(SlowEnv.made) == list(range(1, 12))


def test_one_seed_and_quick_environments_stay_in_the_process(
    workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert layouts_of(SPEC, [3], RAY) == ["slow-3"]
    monkeypatch.delattr(SlowEnv, "prepare")
    assert layouts_of(SPEC, range(9), RAY) == expected(range(9))
    assert not any(worker.calls for worker in workers)


@pytest.mark.parametrize("split", Split)
def test_plans_are_those_of_one_process(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    own = plan_episodes(SPEC, 3, split, 1, 0, 40, True)
    counted = count_layouts(SPEC, own)
    monkeypatch.setattr(layouts, "_cached", {})
    others = plan_episodes(SPEC, 3, split, 1, 0, 40, True, runner=RAY)
    assert others == own
    assert count_layouts(SPEC, others, RAY) == counted
