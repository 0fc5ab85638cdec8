"""Layout keys of environment seeds, which planning by layout and reports need. They are cached for the process.

Environments that are slow to create (with `prepare`) are created in parallel: in processes of this machine, or on the
runner's workers, whose nodes then have what they have compiled.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from oel_core import envs
from oel_core.config.serving import LOCAL_RUNNER, RunnerConfig
from oel_core.envs.base import EnvSpec
from oel_core.errors import EnvironmentError_
from oel_core.policies import runner_workers
from oel_core.policies.replicated.dispatch import dispatch

_BATCH = 8
"""Seeds that a worker gets at once."""
_cached: dict[tuple[str, str, int], str | None] = {}


def layouts_of(spec: EnvSpec, seeds: Sequence[int], runner: RunnerConfig = LOCAL_RUNNER) -> list[str | None]:
    """The layout key of each seed; None where the environment cannot be created.

    Raises:
        ConfigError: as `envs.make_env`.
        ConfigError, PolicyError: as `runner_workers` and `dispatch`.
    """
    options = json.dumps(spec.options, sort_keys=True, default=str)
    missing = [seed for seed in dict.fromkeys(seeds) if (spec.name, options, seed) not in _cached]
    for seed, layout in zip(missing, _created(spec, missing, runner), strict=True):
        _cached[spec.name, options, seed] = layout
    return [_cached[spec.name, options, seed] for seed in seeds]


def _created(spec: EnvSpec, seeds: Sequence[int], runner: RunnerConfig) -> list[str | None]:
    if len(seeds) < 2 or not envs.slow_to_create(spec):
        return _one_by_one(spec, seeds)
    if runner.use == "local":
        with suppress(EnvironmentError_):  # of one seed, which is then found among all
            envs.prepare_envs(spec, seeds, os.cpu_count() or 1)
        return _one_by_one(spec, seeds)
    batches = [seeds[first : first + _BATCH] for first in range(0, len(seeds), _BATCH)]
    found = dispatch(runner_workers(runner), partial(_one_by_one, spec), batches)
    return [layout for batch in found for layout in batch]


def _one_by_one(spec: EnvSpec, seeds: Sequence[int]) -> list[str | None]:
    return [_layout(spec, seed) for seed in seeds]


def _layout(spec: EnvSpec, seed: int) -> str | None:
    try:
        environment = envs.make_env(spec, seed)
    except EnvironmentError_:
        return None
    try:
        return environment.layout
    finally:
        environment.close()
