"""The environment's name in projects that have none: described like the others, and never played."""

import pytest

from oel_core.config.run import parse_config
from oel_core.envs import EnvSpec, check_spec, extraction_task, make_env, playable
from oel_core.envs.recorded import LEARN_FROM_CONVERSATIONS
from oel_core.errors import ConfigError


def test_it_can_be_named_and_extracted_from_and_not_be_played() -> None:
    spec = EnvSpec("recorded")
    check_spec(spec)
    assert (playable("recorded"), playable("lake")) == (False, True)
    assert extraction_task(parse_config({"environment": {"name": "recorded"}}, "test")) == LEARN_FROM_CONVERSATIONS
    with pytest.raises(ConfigError, match="cannot be played"):
        make_env(spec, 0)
