"""Components from outside the project: declared by an installed package, or named as module:attribute."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from oel_core.config.run import parse_config
from oel_core.envs import EnvSpec, env_names, make_env
from oel_core.errors import ConfigError
from oel_core.evaluation import make_suite
from oel_core.plugins import registry
from oel_core.plugins.builtin import ENVIRONMENTS, FORMATS, OBJECTIVES, POLICIES, SUITES, foreign_components
from oel_core.plugins.registry import Registry
from oel_core.runs.folder import stage_key

ALL = (ENVIRONMENTS, FORMATS, OBJECTIVES, POLICIES, SUITES)
CORRIDOR = "tests.fakes:CorridorEnv"


def install(folder: Path, package: str, version: str, entries: str) -> None:
    """A distribution as pip would leave it: its metadata alone makes it installed."""
    metadata = folder / f"{package}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(entries)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose packages count as installed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._installed.cache_clear()
    yield tmp_path
    registry._installed.cache_clear()


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.group)
def test_everything_that_ships_can_be_loaded(kind: Registry) -> None:
    for name in kind.builtin:
        if name != "vllm":  # its module needs a package that need not be here
            assert kind.load(name) is not None
        assert kind.identity(name) is None


def test_an_installed_package_adds_a_name(site: Path) -> None:
    install(site, "oel-corridor", "1.2", f"[oel.envs]\nhall = {CORRIDOR}\n")
    assert env_names()[-1] == "hall"
    assert make_env(EnvSpec("hall"), 0).layout.startswith("corridor")
    assert ENVIRONMENTS.identity("hall") == "oel-corridor 1.2"


def test_two_packages_with_one_name_are_refused(site: Path) -> None:
    install(site, "one", "1", f"[oel.envs]\nhall = {CORRIDOR}\nlake = {CORRIDOR}\n")
    install(site, "two", "3", f"[oel.envs]\nhall = {CORRIDOR}\n")
    with pytest.raises(ConfigError, match=r"environment 'hall' is declared by .*one 1.*two 3|two 3.*one 1"):
        ENVIRONMENTS.load("hall")
    with pytest.raises(ConfigError, match="environment 'lake' is declared by oel and one 1"):
        ENVIRONMENTS.load("lake")


def test_a_component_can_be_named_by_its_place(site: Path) -> None:
    assert make_env(EnvSpec(CORRIDOR, {"size": 4}), 0).layout.startswith("corridor-4")
    assert env_names() == list(ENVIRONMENTS.builtin)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tests.nowhere:CorridorEnv", "there is no module tests.nowhere"),
        ("tests.fakes:Corridor", "tests.fakes has no attribute Corridor"),
        ("tests.fakes:CorridorEnv.nothing", "has no attribute CorridorEnv.nothing"),
        ("tests.fakes:", "unknown environment"),
        ("os:system('x')", "unknown environment"),
        ("../x:y", "unknown environment"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ENVIRONMENTS.load(name)


def test_a_missing_dependency_of_a_component_is_no_wrong_name(site: Path) -> None:
    (site / "needy_plugin.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(ImportError, match="a_package_that_is_not_there"):
        FORMATS.load("needy_plugin:FORMAT")


def test_a_wrong_name_in_a_configuration_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"distill.objective: .*did you mean .*reverse_kl_top_k"):
        parse_config({"distill": {"objective": "reverse_kl_topk"}}, "here")
    assert parse_config({"extract": {"format": "mine.formats:SHORT"}}, "here").extract.format == "mine.formats:SHORT"


def test_a_label_can_stand_for_a_suite_from_anywhere() -> None:
    made = make_suite(
        "mine", {"suite": "oel_core.evaluation.games:make_games", "episodes": 2}, parse_config({}, "here")
    )
    assert made.total == 2


def test_a_changed_component_changes_the_keys_of_stages_that_read_it(site: Path) -> None:
    source = site / "my_world.py"
    source.write_text("World = 1\n")
    config = parse_config(
        {"environment": {"name": "my_world:World"}, "evaluate": {"ood": {"mine": {"suite": "my_world:World"}}}}, "here"
    )

    def key(*sections: str) -> dict[str, str]:
        return stage_key(config, 1, "collect", sections, {"model": "abc"}).inputs

    before = key("environment", "evaluate.ood.mine")
    assert set(before) == {"model", "environment.name", "evaluate.ood.mine.suite"}
    assert key("play") == {"model": "abc"}
    source.write_text("World = 2\n")
    assert key("environment")["environment.name"] != before["environment.name"]


def test_what_ships_leaves_no_trace_in_keys() -> None:
    assert foreign_components({"environment.name": "lake", "evaluate.ood.ifeval.subset": 3}) == {}
