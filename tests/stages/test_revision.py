"""Revision: a rule that changes is disputed and then retired in every replica's file, and its record can be told."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import call
from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.errors import ConfigError
from oel_core.knowledge.item_records import ITEM_RECORDS, ItemRecord, State
from oel_core.knowledge.store import load_knowledge
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.extract import extract
from oel_core.stages.select import select
from oel_core.types import Message

OLD, NEW, STAYS = (f"- EXPERIENCE ITEM: {text}" for text in ("'G' is the goal", "'G' is a pit", "'_' is a free cell"))
CHANGED = 3
"""The round from which the world is another one."""


def config(**knowledge: Any) -> OelConfig:
    values: dict[str, Any] = {
        "rounds": 4,
        "environment": {"name": "corridor", "max_turns": 3},
        "collect": {"replicas": 2, "extraction_episodes": 4},
        "extract": {"with_previous": False},
        "knowledge": {"max_tokens": 400, "carry_over": True, "revision": "on"} | knowledge,
        "distill": {"steps": 1, "episodes_per_step": 1},
    }
    return parse_config(values, "test")


def learn(root: Path, settings: OelConfig) -> RunFolder:
    run = open_run(root, "run")
    adopt_config(run, settings)
    for number in range(1, settings.rounds + 1):

        def player(messages: tuple[Message, ...], seed: int, number: int = number) -> str:
            extracting = "study one finished episode" in messages[0].content
            return f"{NEW if number >= CHANGED else OLD}\n{STAYS}" if extracting else "[right]"

        def load(path: str, model: ModelConfig) -> Policy:
            return ScriptedPolicy(player, batch_size=4)

        write_start(run, number, RoundStart(parent=0, knowledge=number - 1 or None, trigger=f"t{number}"))
        for stage in (collect, extract, accumulate):
            stage(Round(settings, run, number), StageContext(load))
    return run


@pytest.fixture(autouse=True)
def corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")


def texts(run: RunFolder, replica: int) -> list[str]:
    return [load_knowledge(run.stage_path(number, "accumulate"), replica).text for number in range(1, 5)]


def test_a_rule_that_all_episodes_contradict_is_gone_from_every_file(tmp_path: Path) -> None:
    run = learn(tmp_path, config())
    for replica in range(2):
        before, after = f"{OLD}\n{STAYS}", f"{NEW}\n{STAYS}"
        assert texts(run, replica) == [before, before, after, after]
    records = {one.item.text: one for one in read_jsonl(run.stage_path(4, "accumulate") / ITEM_RECORDS, ItemRecord)}
    assert (records[OLD].state, records[NEW].state, records[STAYS].state) == (
        State.RETIRED,
        State.SUPPORTED,
        State.SUPPORTED,
    )
    assert (records[OLD].support, records[OLD].contradictions, records[STAYS].support) == (8, 8, 16)
    assert records[OLD].contradicted_in[0] == "r04-extract-k00-e0000"


def test_without_revision_the_old_rule_stays(tmp_path: Path) -> None:
    run = learn(tmp_path, config(revision="off"))
    assert texts(run, 0)[-1] == f"{OLD}\n{STAYS}\n{NEW}"


def test_the_life_of_an_item_is_told_with_its_episodes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    learn(tmp_path, config())
    root = ["--root", str(tmp_path)]
    assert call(["knowledge", "history", "run", "THE GOAL", *root]) == 0
    said = capfd.readouterr().out
    assert OLD in said
    assert [said.count(state) for state in ("supported", "disputed", "retired")] == [2, 0, 2]
    assert call(["knowledge", "history", "run", "goal", "--json", *root]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(row["round"], row["state"]) for row in rows][-1] == (4, "retired")
    assert rows[0]["found_in"][0] == "r01-extract-k00-e0000"
    assert call(["knowledge", "history", "run", "nothing of that", *root]) == 2


def test_items_get_the_value_that_the_last_selection_measured(tmp_path: Path) -> None:
    settings = config(selection={"use": "best", "episodes": 8})
    settings = settings.model_copy(
        update={"collect": settings.collect.model_copy(update={"replicas": 4, "extraction_episodes": 1})}
    )
    run = open_run(tmp_path, "run")

    def player(messages: tuple[Message, ...], seed: int) -> str:
        if "study one finished episode" in messages[0].content:
            return f"{STAYS}\n{OLD if seed % 2 else NEW}"
        return "[right]" if NEW in messages[0].content else "nothing"

    for number in (1, 2):
        write_start(run, number, RoundStart(parent=0, knowledge=number - 1 or None, trigger=f"t{number}"))
        for stage in (collect, extract, accumulate, select):
            stage(Round(settings, run, number), StageContext(lambda path, model: ScriptedPolicy(player)))
    files = [load_knowledge(run.stage_path(1, "accumulate"), replica).text for replica in range(4)]
    assert {f"{STAYS}\n{OLD}", f"{STAYS}\n{NEW}"} == set(files)
    first, second = (read_jsonl(run.stage_path(n, "accumulate") / ITEM_RECORDS, ItemRecord) for n in (1, 2))
    assert {record.value for record in first} == {None}
    values = {record.item.text: record.value for record in second}
    assert values.pop(STAYS) is None
    assert values == {NEW: -(values[OLD] or 0), OLD: values[OLD]}
    assert (values[NEW] or 0) > 0


def test_revision_needs_knowledge_that_goes_on() -> None:
    with pytest.raises(ConfigError, match="revision: on is about items of earlier rounds"):
        config(carry_over=False)
