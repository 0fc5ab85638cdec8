"""TextWorld's games without their objective."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oel_core.envs import EnvSpec, make_env, prepare_envs
from oel_core.envs.textworld.games import INTRO, NOT_POSSIBLE, CoinCollector, CustomGame
from oel_core.envs.textworld.text import refuse_objective, tidy
from oel_core.errors import EnvironmentError_
from oel_core.rollouts.episode import episode_return
from tests.envs.hash_seeds import seen_under_two_hash_seeds

COIN = EnvSpec("textworld_coin", {"level": 2})
TREASURE = EnvSpec("textworld_treasure", {"level": 4})
COOKING = EnvSpec("textworld_cooking")
CUSTOM = EnvSpec("textworld_custom", {"rooms": 2, "objects": 3, "quest_length": 2})
SEED = 3


def walkthrough(environment) -> list[str]:
    return list(environment._state["game"].walkthrough)


@pytest.mark.parametrize("spec", [COIN, TREASURE, COOKING, CUSTOM], ids=lambda spec: spec.name)
def test_the_games_own_solution_passes(spec: EnvSpec) -> None:
    environment = make_env(spec, SEED)
    steps = [environment.step(environment.parse(f"I type [{command}]")) for command in walkthrough(environment)]
    assert [step.terminated for step in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1].reward > 0.0
    assert episode_return(step.reward for step in steps) == 1.0
    assert episode_return(step.reward for step in steps[:-1]) < 1.0
    assert all(step.reward >= 0.0 for step in steps)
    assert re.fullmatch(r"Success: .+ \(score (\d+) of \1\)", environment.feedback(truncated=False))
    assert "RESTART" not in steps[-1].observation


def test_the_wrong_treasure_loses() -> None:
    environment = make_env(TREASURE, SEED)
    wrong = environment._state["game"].quests[0].fail_events[0].condition.preconditions[0].arguments[0].name
    step = wander_and_take(environment, environment._state["game"].infos[wrong].name)
    assert (step.terminated, step.reward) == (True, 0.0)
    assert environment.feedback(truncated=False).startswith("Failure: ")
    assert environment.feedback(truncated=False).endswith("(score 0 of 1)")


def wander_and_take(environment, thing: str):
    """Depth-first through the rooms, by commands alone."""
    opposite = {"north": "south", "south": "north", "east": "west", "west": "east"}

    def search(seen: set[str], way_back: list[str]):
        commands = environment._state["admissible_commands"]
        room = environment._state["description"].split("\n")[0]
        take = [command for command in commands if command.startswith("take ") and thing in command]
        if take:
            return environment.step(take[0])
        for command in [command for command in commands if command.startswith("go ")] if room not in seen else []:
            environment.step(command)
            done = search(seen | {room}, way_back)
            if done is not None:
                return done
            environment.step(f"go {opposite[command.split()[1]]}")
        return None

    return search(set(), [])


def test_an_observation_is_the_place_the_inventory_and_the_commands() -> None:
    environment = make_env(COIN, SEED)
    place, inventory, commands = environment.start().rsplit("\n\n", 2)
    assert place.startswith("-= ")
    assert inventory == "You are carrying nothing."
    assert re.fullmatch(r"Possible commands: \[go \w+\](, \[\w[\w ]*\])*", commands)
    after = environment.step("inventory").observation
    assert after.count("You are carrying nothing.") == 1
    assert after.count("-= ") == 1
    assert "\n>" not in after
    assert environment.intro == INTRO


def test_commands_can_be_left_out_and_still_work() -> None:
    shown = make_env(COIN, SEED)
    hidden = make_env(EnvSpec(COIN.name, {**COIN.options, "show_commands": False}), SEED)
    assert hidden.layout == shown.layout
    assert shown.start().startswith(hidden.start() + "\n\nPossible commands: ")
    command = walkthrough(hidden)[0]
    assert hidden.parse(f"[{command}]") == command
    assert "Possible commands" not in hidden.step(command).observation


def test_what_is_not_possible_is_answered_and_changes_nothing() -> None:
    environment = make_env(COIN, SEED)
    first = environment.start()
    for action in (None, "fly", "take coin", "quit", "restart"):
        step = environment.step(action)
        assert step.observation == f"{NOT_POSSIBLE}\n\n{first}"
        assert (step.reward, step.terminated) == (0.0, False)
    assert environment.feedback(truncated=True) == "Failure: round limit reached (score 0 of 1)"


@pytest.mark.parametrize(
    ("response", "action"),
    [
        ("[look]", "look"),
        ("[fly] then [Look]", "look"),
        ("[look] or rather [  INVENTORY\t]", "inventory"),
        ("[look], not [fly]", "look"),
        ("I could look.\n\ninventory\n\n", "inventory"),
        ("inventory\nlook around", None),
        ("[inventory\nlook", "look"),
        ("[[look]]", "look"),
        ("look", "look"),
        ("Inventory.", None),
        ("[]", None),
        ("", None),
    ],
)
def test_reading_a_command(response: str, action: str | None) -> None:
    assert make_env(COIN, SEED).parse(response) == action


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(), st.text(alphabet=st.characters(exclude_characters="[]")))
def test_any_response_can_be_read(before: str, after: str) -> None:
    environment = test_any_response_can_be_read.__dict__.setdefault("environment", make_env(COIN, SEED))
    assert environment.parse(before) in {None, *environment._state["admissible_commands"]}
    assert environment.parse(f"{before}[look]{after}") == "look"


def test_games_of_another_cache_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_env(CUSTOM, SEED)
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    again = make_env(CUSTOM, SEED)
    assert again.layout == before.layout
    assert again.start() == before.start()
    commands = walkthrough(before)
    assert commands == walkthrough(again)
    assert [again.step(command) for command in commands] == [before.step(command) for command in commands]


def test_the_cache_tells_worlds_apart_but_not_ways_to_show_them(game_cache: Path) -> None:
    def entries() -> set[str]:
        return {entry.name for entry in (game_cache / "textworld").iterdir()}

    make_env(CUSTOM, SEED)
    before = entries()
    make_env(EnvSpec(CUSTOM.name, {**CUSTOM.options, "show_commands": False}), SEED)
    assert entries() == before
    make_env(EnvSpec(CUSTOM.name, {**CUSTOM.options, "quest_length": 1}), SEED)
    assert len(entries() - before) == 1
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for name in entries())


def test_a_seed_without_a_game_is_retried_the_same_way_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    generate = CustomGame._generate

    def stubborn(options, game_options):
        tried.append(game_options.seeds["map"])
        if len(tried) % 2:
            raise ValueError("low >= high")
        return generate(options, game_options)

    monkeypatch.setattr(CustomGame, "_generate", stubborn)
    layouts = set()
    for attempt in range(2):
        monkeypatch.setenv("OEL_CACHE", str(tmp_path / str(attempt)))
        layouts.add(make_env(CUSTOM, 8).layout)
    assert len(layouts) == 1
    assert tried[:2] == tried[2:]
    assert tried[0] != tried[1]


def test_options_that_never_give_a_game_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))

    def never(options, game_options):
        raise ValueError("no quest of that length")

    monkeypatch.setattr(CoinCollector, "_generate", never)
    with pytest.raises(EnvironmentError_, match="no quest of that length"):
        make_env(COIN, 8)
    assert list((tmp_path / "textworld").iterdir()) == []


def test_a_broken_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    monkeypatch.setenv("INFORM_HOME", str(tmp_path / "absent"))
    with pytest.raises(EnvironmentError_, match="did not compile"):
        make_env(CUSTOM, 8)
    assert list((tmp_path / "textworld").iterdir()) == []


def test_a_spoilt_cache_entry_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_env(CUSTOM, SEED)
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    monkeypatch.setattr("oel_core.envs.textworld.games._compile", lambda cls, options, seed, folder: None)
    with pytest.raises(EnvironmentError_, match="Delete that folder"):
        make_env(CUSTOM, SEED)


def test_an_objective_in_an_observation_is_an_error() -> None:
    objective = "Welcome! First of all, go to the north. Then pick up the coin. That's it!"
    refuse_objective("A room. There is a coin on the floor.", objective)
    with pytest.raises(EnvironmentError_, match=r"First of all, go to the north\."):
        refuse_objective("A room.\nFirst of all,  go to\nthe north. Well?", objective)


def test_tidying_keeps_words_and_drops_the_interpreters_own() -> None:
    raw = "\n\nYou win.  \n\n\n\n>    -= Room =-1/2\n\n *** The End ***\n\nWould you like to RESTART, QUIT?\n> "
    assert tidy(raw) == "You win.\n\n*** The End ***"


def test_preparing_in_parallel_gives_the_games_that_play_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here = make_env(CUSTOM, SEED).layout
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    prepare_envs(CUSTOM, [SEED, 4, SEED], workers=2)
    assert "Making games" in capfd.readouterr().err
    made = list((tmp_path / "textworld").iterdir())
    assert len(made) == 2
    monkeypatch.setattr("oel_core.envs.textworld.games._compile", None)  # nothing is left to compile
    assert make_env(CUSTOM, SEED).layout == here
    prepare_envs(CUSTOM, [SEED, 4], workers=2)
    prepare_envs(EnvSpec("frozen_lake"), [1, 2], workers=2)  # nothing to prepare there


@pytest.mark.slow
def test_games_do_not_depend_on_the_order_of_python_sets(tmp_path: Path) -> None:
    program = (
        "import json; from oel_core.envs import EnvSpec, make_env\n"
        "options = {'recipe': 2, 'take': 1, 'cut': True, 'cook': True, 'open': True, 'go': 6}\n"
        "env = make_env(EnvSpec('textworld_cooking', options), 7)\n"
        "commands = env._state['game'].walkthrough\n"
        "print(json.dumps([env.layout, env.start(), *(env.step(c).observation for c in commands)]))"
    )
    seen = seen_under_two_hash_seeds(program, tmp_path)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 10
