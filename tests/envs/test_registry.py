"""Invalid names and options are rejected before an environment is created."""

import subprocess
import sys

import pytest

from oel_core.envs import REGISTRY, EnvSpec, check_spec, describe_env, describe_envs, env_names, make_env
from oel_core.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "near"), [("frozenlake", "frozen_lake"), ("sokobann", "sokoban"), ("textworld_coins", "textworld_coin")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown environment '{name}': did you mean {near}"):
        make_env(EnvSpec(name), 0)


def test_a_name_like_none_lists_all() -> None:
    with pytest.raises(ConfigError) as refused:
        make_env(EnvSpec("zzz"), 0)
    assert "did you mean" not in str(refused.value)
    assert all(name in str(refused.value) for name in REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_unknown_options_are_refused_by_every_environment(name: str) -> None:
    for check in (check_spec, lambda spec: make_env(spec, 0)):
        with pytest.raises(ConfigError, match="wibble"):
            check(EnvSpec(name, {"wibble": 1}))


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("frozen_lake", {"size": 99, "holes": -1, "hole": 2}, ["size", "holes", "hole"]),
        ("frozen_lake", {"size": "3"}, ["size", "'3'"]),
        ("frozen_lake", {"size": 3, "holes": 4}, ["room for 3"]),
        ("sokoban", {"boxes": 0, "size": 2}, ["boxes", "size"]),
        ("textworld_coin", {"level": 0}, ["level"]),
        ("textworld_coin", {"level": 199}, ["198 rooms"]),
        ("textworld_treasure", {"level": 31, "show_commands": "perhaps"}, ["level", "show_commands"]),
        ("textworld_cooking", {"go": 2, "split": "all"}, ["go", "split"]),
        ("textworld_cooking", {"take": 2}, ["take is 2"]),
        ("textworld_custom", {"rooms": 0, "objects": 0, "quest_length": 0}, ["rooms", "objects", "quest_length"]),
    ],
)
def test_every_bad_option_is_named(name: str, options: dict[str, object], named: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        make_env(EnvSpec(name, options), 0)
    assert name in str(refused.value)
    assert [part for part in named if part not in str(refused.value)] == []


def test_every_environment_is_described() -> None:
    infos = describe_envs()
    assert [info.name for info in infos] == env_names()
    for info in infos:
        assert info.summary
        assert info.options or info.name == "recorded"
        assert all(option.help for option in info.options), info.name


def test_an_option_is_described_with_its_default() -> None:
    size = describe_env("frozen_lake").options[0]
    assert (size.name, size.type, size.default) == ("size", "int", 3)
    split = next(option for option in describe_env("textworld_cooking").options if option.name == "split")
    assert "'train'" in split.type


def test_a_listing_imports_no_game_engine() -> None:
    program = (
        "import sys; from oel_core.envs import describe_envs; describe_envs(); "
        "print(sorted({'textworld', 'textarena', 'jericho'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
