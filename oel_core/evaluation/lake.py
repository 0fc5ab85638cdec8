"""Out-of-distribution suites on the lake, for the embedded model: does it still follow the knowledge in its prompt?

Consolidation trains the meanings of the deployment's symbols. These suites put true knowledge about *other* meanings
into the prompt, so a model that only memorised the deployment's symbols fails them.
"""

from collections.abc import Mapping
from typing import Any

from oel_core.config.run import OelConfig
from oel_core.envs.lake import DEPLOYMENT_SYMBOLS, ROLES, Role
from oel_core.evaluation.base import EpisodeSuite
from oel_core.evaluation.ground_truth import GroundTruthOptions, make_ground_truth_suite
from oel_core.evaluation.options import parse_options


def make_other_symbols(options: Mapping[str, Any], config: OelConfig) -> EpisodeSuite:
    """Boards with symbols that are sampled for every episode."""
    chosen = parse_options("other_symbols", GroundTruthOptions, options)
    return make_ground_truth_suite("other_symbols", "lake", "random", chosen, config)


def make_swapped_roles(options: Mapping[str, Any], config: OelConfig) -> EpisodeSuite:
    """The deployment's symbols with swapped roles, so that the prompt contradicts what was trained."""
    own = config.environment.options.get("symbols") if config.environment.name == "lake" else None
    letters = {**DEPLOYMENT_SYMBOLS, **own} if isinstance(own, Mapping) else DEPLOYMENT_SYMBOLS
    chosen = parse_options("swapped_roles", GroundTruthOptions, options)
    return make_ground_truth_suite("swapped_roles", "lake", swap_roles(letters), chosen, config)


def swap_roles(symbols: Mapping[Role, str]) -> dict[Role, str]:
    """Each role gets the letter of its opposite: hole and goal are swapped, and so are trap and key."""
    return {role: symbols[opposite] for role, opposite in zip(ROLES, reversed(ROLES), strict=True)}
