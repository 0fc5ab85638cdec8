"""The out-of-distribution suite among relics, for the embedded model: the TextWorld twin of the lake's."""

from collections.abc import Mapping
from typing import Any

from oel_core.config.run import OelConfig
from oel_core.evaluation.options import parse_options
from oel_core.evaluation.told import ToldOptions, ToldSuite, make_told


def make_other_relics(options: Mapping[str, Any], config: OelConfig) -> ToldSuite:
    """Relics whose letters are drawn anew every episode, with the truth about them in context."""
    chosen = parse_options("other_relics", ToldOptions, options)
    return make_told("other_relics", "textworld_relics", "random", chosen, config)
