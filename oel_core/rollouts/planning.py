"""Plans episodes: ids and environment seeds, by split, round and replica.

Seeds are unique (`oel_core.seeds`), but small environments have few layouts, so different seeds can give the same
board. With `split_by_layout` every layout belongs to exactly one share, by a hash of its key: 70% to training
(extraction and distillation), 10% to validation, 20% held out. Seeds with a layout of another share are skipped. The
shares depend on neither loop seed nor round, so a held-out layout is never trained on, in any run.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from oel_core.config.serving import LOCAL_RUNNER, RunnerConfig
from oel_core.envs.base import EnvSpec
from oel_core.envs.shares import layout_share
from oel_core.errors import ConfigError
from oel_core.rollouts.layouts import layouts_of
from oel_core.seeds import Seeding, episode_seed
from oel_core.types import Split

MAX_MISSES = 400
"""Seeds in a row that may fall to other shares. Chance alone reaches it in one of 10^18 tries for a share of 10%."""


@dataclass(frozen=True)
class EpisodePlan:
    """One episode to play."""

    id: str
    seed: int
    """Of the environment."""
    split: Split
    round: int
    replica: int
    index: int
    """Index within its split, round and replica, without gaps."""

    def coordinates(self) -> dict[str, Any]:
        """The fields that a trajectory copies."""
        return asdict(self)


def episode_id(split: Split, round_index: int, replica: int, index: int) -> str:
    """What names an episode within its run."""
    return f"r{round_index:02d}-{split.value}-k{replica:02d}-e{index:04d}"


def count_layouts(spec: EnvSpec, plans: Sequence[EpisodePlan], runner: RunnerConfig = LOCAL_RUNNER) -> int:
    """Distinct layouts among the planned episodes, without those that cannot be created. Raises as `layouts_of`."""
    return len({*layouts_of(spec, [plan.seed for plan in plans], runner)} - {None})


def _seeds_of_share(
    spec: EnvSpec, split: Split, seed_at: Callable[[int], int], count: int, runner: RunnerConfig
) -> list[int]:
    """The first `count` seeds whose layouts belong to the split's share. As many are looked at together as are still
    missing, so none is looked at in vain."""
    share = "train" if split in (Split.EXTRACT, Split.DISTILL) else split.value
    found: list[int] = []
    misses = candidate = 0
    while len(found) < count:
        seeds = [seed_at(candidate + number) for number in range(min(count - len(found), MAX_MISSES - misses))]
        candidate += len(seeds)
        for seed, layout in zip(seeds, layouts_of(spec, seeds, runner), strict=True):
            belongs = layout is not None and layout_share(layout) == share
            found += [seed] if belongs else []
            misses = 0 if belongs else misses + 1
        if misses == MAX_MISSES:
            raise ConfigError(
                f"environment.split_by_layout: {MAX_MISSES} seeds of '{spec.name}' in a row had no layout for "
                f"{split.value}: the world has too few layouts. Make it bigger, or set split_by_layout to false"
            )
    return found


def plan_episodes(
    spec: EnvSpec,
    loop_seed: int,
    split: Split,
    round_index: int,
    replica: int,
    count: int,
    split_by_layout: bool,
    seeding: Seeding = episode_seed,
    runner: RunnerConfig = LOCAL_RUNNER,
) -> list[EpisodePlan]:
    """`count` episodes of one split, round and replica. The first n are the same whatever `count` is.

    Ids look like `r01-extract-k03-e0007`. `seeding` is one of `oel_core.seeds.SEEDINGS`. Environments that are slow to
    create are created on the runner's workers to learn their layouts.

    Raises:
        ConfigError: a coordinate has no seed (`seeding`), or the world has too few layouts to be split.
        ConfigError, PolicyError: as `layouts_of`.
    """
    seed_at = partial(seeding, loop_seed, split, round_index, replica)
    seeds = (
        _seeds_of_share(spec, split, seed_at, count, runner) if split_by_layout else [seed_at(n) for n in range(count)]
    )
    return [
        EpisodePlan(episode_id(split, round_index, replica, index), seed, split, round_index, replica, index)
        for index, seed in enumerate(seeds)
    ]
