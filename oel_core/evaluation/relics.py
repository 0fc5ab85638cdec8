"""The out-of-distribution suite for relics: the counterpart in TextWorld of the lake's suite."""

from collections.abc import Mapping
from typing import Any

from oel_core.config.run import OelConfig
from oel_core.evaluation.base import EpisodeSuite
from oel_core.evaluation.ground_truth import GroundTruthOptions, make_ground_truth_suite
from oel_core.evaluation.options import parse_options


def make_other_relics(options: Mapping[str, Any], config: OelConfig) -> EpisodeSuite:
    """Relics with letters that are sampled for every episode, with ground truth in the prompt."""
    chosen = parse_options("other_relics", GroundTruthOptions, options)
    return make_ground_truth_suite("other_relics", "textworld_relics", "random", chosen, config)
