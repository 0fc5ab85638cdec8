"""A stage reads no setting that its key does not declare, and declares none that it does not read.

Every kind of stage runs with a configuration that records what is read of it. A setting that is read but not declared
would let finished work be taken over although it would come out differently now.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.bundles.making import make_bundle
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.config.sampling import Sampling
from oel_core.config.serving import affects_results
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.projects.inbox import INBOX, Received
from oel_core.projects.review import Decision, decide
from oel_core.projects.triggers import begin
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import open_run
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.manifest import StageKey
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.seeds import derive_seed
from oel_core.stages.gate import gate
from oel_core.stages.round import Stage, round_stages
from oel_core.types import Feedback, Message, Split, Trajectory
from tasks.stages import TASKS
from tests.fakes import tiny_model_folder
from tests.stages.recorder import Recorder

WHICH_CAP = {"knowledge.source.use": "which cap knowledge files are checked against; accumulate declares it"}
RAW_CAP = {"knowledge.source.raw_max_tokens": "only a cap that files are checked against; accumulate declares it"}
SUITE = {"evaluate.held_out": "chooses which settings the key declares: of cases others than of games"}
GAMES_ARMS = {"evaluate.games.arms": "which arms a round has, not what one of them gives"}
CASES_ARMS = {"evaluate.cases.arms": "as evaluate.games.arms"}
PARTS = SUITE | GAMES_ARMS | CASES_ARMS
WHERE_FROM = {"experience.bundle": "which stage has the prompts or knowledge; its digest is an input"}
UNDECLARED: dict[str, dict[str, str]] = {
    "collect": {"knowledge.injection": "no prompt of it carries knowledge"},
    "extract": WHICH_CAP,
    "receive": {
        "experience.bundle": "the bundle's digest is an input",
        "experience.bundle_digest": "only what that digest must be",
        "collect.replicas": "only what the bundle's number of files must be",
        "model": "declared where it writes prompts from knowledge; else only compared with the bundle's",
        "distill.start": "only which model is compared with the bundle's, for a warning",
    },
    "accumulate": {"knowledge.source.folder": "the digest of the folder's files is an input"} | WHERE_FROM,
    "review": WHICH_CAP
    | {
        "knowledge.max_tokens": "only a cap that files are checked against; accumulate declares it",
        "knowledge.carry_over": "which items a reviewer is shown as new",
        "model.path": "its tokenizer counts; accumulate, whose digest is an input, declares it",
    },
    "saturation": SUITE,
    "select": WHICH_CAP | SUITE,
    "distill": WHICH_CAP | RAW_CAP | WHERE_FROM,
    "evaluate/held_out": PARTS | WHERE_FROM,
    "evaluate/start": SUITE | CASES_ARMS | WHERE_FROM,
    "evaluate/ood": SUITE | GAMES_ARMS | WHERE_FROM,
    "evaluate/raw": PARTS | WHERE_FROM,
    "evaluate/in_context": WHICH_CAP
    | RAW_CAP
    | PARTS
    | WHERE_FROM
    | {
        "knowledge.max_tokens": "only a cap that files are checked against; accumulate declares it",
        "review.mode": "chooses the stage whose digest is an input",
    },
    "gate": SUITE
    | WHERE_FROM
    | {
        "gate": "once decided, a verdict stays: later changes are for later rounds",
        "seed": "as gate; the measurements, whose digests are inputs, declare it",
    },
}
"""Stage → setting or section that it reads without declaring it, and why finished work stays right all the same."""
JUDGED = dict.fromkeys(("evaluate.cases.judge_kappa", "evaluate.cases.judge_rated"), "read where the scorer is a judge")
MODEL = {"model": "read by what loads a policy, which a scripted one replaces"}
EMPTY = {"knowledge.allow_empty": "read only where all knowledge is empty"}
WHOLE = {"knowledge.selection": "declared whole; of a selection that was made only its kind is read"}
UNREAD: dict[str, dict[str, str]] = {
    "collect": MODEL,
    "receive": MODEL,
    "extract": MODEL
    | {
        "collect.extraction_episodes": "known from the collected episodes",
        "extract.item_shape": "read only with extract.constrained=shape",
    },
    "accumulate": EMPTY,
    "review": EMPTY | {"review.mode": "without it there is no such stage"},
    "saturation": MODEL
    | EMPTY
    | {
        "extract": "the extraction, whose digest is an input, was made with it",
        "knowledge.hygiene": "as extract",
        "knowledge.max_tokens": "as extract",
        "knowledge.revision": "as extract",
        "knowledge.source": "as extract: only extracted knowledge has a curve",
    },
    "select": MODEL | JUDGED | {"collect.replicas": "known from the knowledge files"},
    "distill": WHOLE,
    "evaluate/held_out": MODEL | JUDGED,
    "evaluate/start": MODEL | JUDGED,
    "evaluate/raw": MODEL | JUDGED,
    "evaluate/in_context": MODEL | WHOLE | JUDGED,
    "evaluate/ood": MODEL
    | {
        "evaluate.games": "a suite may read any of the settings of games; these two do not read all",
    },
}
"""Stage → setting or section that it declares without reading it here, and why."""


def player(messages: tuple[Message, ...], seed: int) -> str:
    if "You write examples" in messages[0].content:
        return f"Where is the goal, {seed % 1000}?"
    if "study one finished episode" in messages[0].content:
        return f"- EXPERIENCE ITEM: the goal is to the right, note {seed % 1000}"
    return f"I go [{'right' if derive_seed('player', seed) % 2 else 'left'}]"


class Player(ScriptedPolicy):
    """Looks at every sampling setting, as a policy does that samples."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        assert sampling.temperature >= 0
        assert sampling.top_k >= 0 < sampling.top_p
        return super().generate(requests, sampling)


def load(path: str, model: ModelConfig) -> Policy:
    return Player(player, batch_size=4)


@dataclass
class Found:
    """By stage, over all configurations: what was read, what keys declare, and what was read without being declared."""

    read: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    declared: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    undeclared: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, stage: str, read: set[str], key: StageKey) -> None:
        name = "evaluate/ood" if stage.startswith("evaluate/ood/") else stage
        self.read[name] |= read
        self.declared[name] |= key.config.keys()
        self.undeclared[name] |= {path for path in read if affects_results(path) and not covered(path, key.sections)}

    def unread(self, stage: str) -> set[str]:
        return {path for path in self.declared[stage] if not covered(path, self.read[stage])}


def covered(path: str, sections: Collection[str]) -> bool:
    """Whether a setting is one of these, or lies in one."""
    return any(path == section or path.startswith(f"{section}.") for section in sections)


def unexplained(found: Mapping[str, set[str]], reasons: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    left = {
        stage: sorted(path for path in paths if not covered(path, reasons.get(stage, {})))
        for stage, paths in found.items()
    }
    return {stage: paths for stage, paths in left.items() if paths}


def out_of_date(found: Mapping[str, set[str]], reasons: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Reasons for what is not so any more."""
    left = {
        stage: sorted(entry for entry in entries if not any(covered(path, (entry,)) for path in found.get(stage, ())))
        for stage, entries in reasons.items()
    }
    return {stage: entries for stage, entries in left.items() if entries}


def configurations(model: Path, knowledge: Path) -> Iterator[OelConfig]:
    """Between them they have every stage, every source of knowledge, and every arm."""
    shared: dict[str, Any] = {
        "rounds": 2,
        "model": {"path": str(model), "max_length": 4096},
        "environment": {"name": "corridor", "max_turns": 3},
        "collect": {"replicas": 2, "extraction_episodes": 4},
        "distill": {"steps": 1, "episodes_per_step": 1, "max_response_tokens": 4, "top_k": 4},
        "evaluate": {
            "games": {"episodes": 2, "arms": ["in_context", "raw"]},
            "ood": {"other_symbols": {"episodes": 1}, "cross_game": {"environment": "lake", "episodes": 1}},
        },
    }
    rich = {
        "knowledge": {
            "max_tokens": 400,
            "carry_over": True,
            "selection": {"use": "best", "episodes": 2},
            "saturation": {"every": 1, "episodes": 2},
            "hygiene": {"policy": "flag"},
            "injection": {"mode": "step_wise"},
        },
        "review": {"mode": "required"},
    }
    yield parse_config(shared | rich, "test")
    yield parse_config(shared | {"knowledge": {"source": {"use": "raw", "raw_max_tokens": 4000}}}, "test")
    taken_over = {"source": {"use": "folder", "folder": str(knowledge)}, "hygiene": {"policy": "drop"}}
    yield parse_config(shared | {"knowledge": taken_over}, "test")


def from_bundles(root: Path, config: OelConfig) -> Iterator[OelConfig]:
    """Rounds of bundles, with prompts and without, that the first run made."""
    for name, knowledge_only in (("whole", False), ("knowledge", True)):
        path = root / f"{name}.zip"
        made = make_bundle(Round(config, open_run(root, "run0"), 1), path, knowledge_only=knowledge_only)
        experience = {"bundle": str(path), "synthesis": {"prompts": 3}}
        changed = {"rounds": 1, "experience": experience, "knowledge": {"hygiene": {"policy": "flag"}}}
        kept = config.model_dump(mode="json", exclude={"knowledge", "review", "experience"})
        kept["collect"]["replicas"] = made.manifest.replicas
        yield parse_config(kept | changed, "test")


def perform(round: Round, stages: list[Stage], recorder: Recorder, found: Found) -> None:
    for stage in stages:
        if stage.kind == "review":
            made = Decision(decision="approve", dropped=(1,), author="ann", via="oel review", decided_at=1.0)
            decide(round, made)
        recorder.read = set()
        with recorder.recording():
            manifest = stage.work(round, StageContext(load))
        found.add(stage.name, recorder.read, manifest.key)


def take_inbox(root: Path, config: OelConfig, recorder: Recorder, found: Found) -> None:
    """A round that takes its episodes from an inbox: those that another run played."""
    episodes = Round(config, open_run(root, "run0"), 1).trajectories
    received = [
        Received(file="a.jsonl", line=number, episode=episode)
        for number, episode in enumerate([*episodes(Split.EXTRACT), *episodes(Split.DISTILL)], start=1)
    ]
    round = Round(config, open_run(root, "inbox"), 1)
    write_start(round.run, 1, RoundStart(parent=0, knowledge=None, trigger="t", inbox_episodes=len(received)))
    write_atomic(round.path / INBOX, jsonl_bytes(received))
    perform(round, round_stages(round)[:1], recorder, found)


def measure_cases(root: Path, config: OelConfig, recorder: Recorder, found: Found) -> None:
    """A round that is measured on cases: episodes that another run played, with the right answer of every turn."""
    played = Round(config, open_run(root, "run0"), 1).trajectories(Split.DISTILL)
    inbox = root / "sessions"
    inbox.mkdir()
    write_atomic(inbox / "a.jsonl", jsonl_bytes(answered(played[0], number) for number in range(20)))
    values = config.model_dump(mode="json")
    values["experience"] |= {"inbox": str(inbox), "min_episodes": 20}
    values["knowledge"]["selection"] = {"use": "best", "episodes": 2}
    values["evaluate"] |= {"held_out": "cases", "ood": {}}
    values["evaluate"]["cases"] |= {"scorer": "contains", "held_out": 0.2, "validation": 0.2}
    measured, run = parse_config(values, "test"), open_run(root, "cases")
    begin(measured, run, "t", 0)
    for number in (0, 1):
        round = Round(recorder.watch(measured), run, number)
        perform(round, round_stages(round), recorder, found)
    perform(round, [Stage("gate", "gate", lambda round, context: gate(round))], recorder, found)


def answered(episode: Trajectory, number: int) -> Trajectory:
    """The episode as somebody else's, about something else."""
    given = (Feedback(source="human", expected="I go [right]"),)
    asked = Message(role="user", content=" ".join(f"word{number}{place}" for place in range(6)))
    turns = [turn.model_copy(update={"messages": (turn.messages[0], asked), "given": given}) for turn in episode.turns]
    return episode.model_copy(update={"id": f"s{number}", "turns": tuple(turns)})


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    recorder, found = Recorder(monkeypatch), Found()
    plain_key = Round.key

    def unrecorded_key(round: Round, *arguments: Any) -> StageKey:
        with recorder.recording(False):
            return plain_key(round, *arguments)

    monkeypatch.setattr(Round, "key", unrecorded_key)
    knowledge = tmp_path / "run0" / "round_01" / "accumulate"
    for number, config in enumerate(configurations(tiny_model_folder(tmp_path), knowledge)):
        for index in range(config.rounds + 1):
            round = Round(recorder.watch(config), open_run(tmp_path, f"run{number}"), index)
            perform(round, round_stages(round), recorder, found)
        perform(round, [Stage("gate", "gate", lambda round, context: gate(round))], recorder, found)
    for number, received in enumerate(from_bundles(tmp_path, next(configurations(tmp_path / "tiny", knowledge)))):
        for index in (0, 1):
            round = Round(recorder.watch(received), open_run(tmp_path, f"bundle{number}"), index)
            perform(round, round_stages(round), recorder, found)
    take_inbox(tmp_path, recorder.watch(config), recorder, found)
    measure_cases(tmp_path, next(configurations(tiny_model_folder(tmp_path / "again"), knowledge)), recorder, found)
    return found


def test_stages_read_what_their_keys_declare_and_declare_what_they_read(found: Found) -> None:
    unread = {stage: found.unread(stage) for stage in found.declared}
    assert unexplained(found.undeclared, UNDECLARED) == {}
    assert unexplained(unread, UNREAD) == {}
    assert out_of_date(found.undeclared, UNDECLARED) == {}
    assert out_of_date(unread, UNREAD) == {}
    assert {stage.partition("/")[0] for stage in found.read} == {*TASKS, "gate"}
