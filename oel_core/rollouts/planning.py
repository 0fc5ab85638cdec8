"""Plans episodes: ids and environment seeds, by split, round and replica.

Seeds are unique (`oel_core.seeds`), but small environments have few layouts, so different seeds can give the same
board. With `split_by_layout` every layout belongs to exactly one share, by a hash of its key: 70% to training
(extraction and distillation), 10% to validation, 20% held out. Seeds with a layout of another share are skipped. The
shares depend on neither loop seed nor round, so a held-out layout is never trained on, in any run.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from oel_core import envs
from oel_core.envs.base import EnvSpec
from oel_core.envs.shares import layout_share
from oel_core.errors import ConfigError, EnvironmentError_
from oel_core.seeds import Seeding, episode_seed
from oel_core.types import Split

MAX_MISSES = 400
"""Seeds in a row that may fall to other shares. Chance alone reaches it in one of 10^18 tries for a share of 10%."""
_layouts: dict[tuple[str, str, int], str] = {}


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


def layout_of(spec: EnvSpec, seed: int) -> str:
    """The layout key of a seed, cached for the process. Creates an environment.

    Raises:
        ConfigError, EnvironmentError_: as `envs.make_env`.
    """
    key = (spec.name, json.dumps(spec.options, sort_keys=True, default=str), seed)
    if key not in _layouts:
        environment = envs.make_env(spec, seed)
        try:
            _layouts[key] = environment.layout
        finally:
            environment.close()
    return _layouts[key]


def count_layouts(spec: EnvSpec, plans: Iterable[EpisodePlan]) -> int:
    """Distinct layouts among the planned episodes, without those that cannot be created."""
    found = set()
    for plan in plans:
        try:
            found.add(layout_of(spec, plan.seed))
        except EnvironmentError_:
            continue
    return len(found)


def _belongs(spec: EnvSpec, seed: int, split: Split) -> bool:
    try:
        share = "train" if split in (Split.EXTRACT, Split.DISTILL) else split.value
        return layout_share(layout_of(spec, seed)) == share
    except EnvironmentError_:
        return False


def _seeds(
    spec: EnvSpec,
    loop_seed: int,
    split: Split,
    round_index: int,
    replica: int,
    count: int,
    split_by_layout: bool,
    seeding: Seeding,
) -> list[int]:
    found: list[int] = []
    misses = candidate = 0
    while len(found) < count:
        seed = seeding(loop_seed, split, round_index, replica, candidate)
        candidate += 1
        if not split_by_layout or _belongs(spec, seed, split):
            found.append(seed)
            misses = 0
            continue
        misses += 1
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
) -> list[EpisodePlan]:
    """`count` episodes of one split, round and replica. The first n are the same whatever `count` is.

    Ids look like `r01-extract-k03-e0007`. `seeding` is one of `oel_core.seeds.SEEDINGS`.

    Raises:
        ConfigError: a coordinate has no seed (`seeding`), or the world has too few layouts to be split.
    """
    seeds = _seeds(spec, loop_seed, split, round_index, replica, count, split_by_layout, seeding)
    return [
        EpisodePlan(episode_id(split, round_index, replica, index), seed, split, round_index, replica, index)
        for index, seed in enumerate(seeds)
    ]
