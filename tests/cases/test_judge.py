"""A rubric from a log to the gate: imported, frozen into cases, read by a judge that decides by its votes."""

import json
from pathlib import Path

import pytest

from oel_core.cases.frozen import CASES, read_cases
from oel_core.config.run import ModelConfig, OelConfig
from oel_core.gate.promotion import Check, Verdict
from oel_core.imports.importing import Import, import_logs
from oel_core.imports.privacy import Privacy
from oel_core.knowledge.selection_records import Selection
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import open_run
from oel_core.stages.gate import gate, read_verdict
from oel_core.types import Message
from tests.cases.sessions import said
from tests.cases.test_round import begun, config, measured, player
from tests.imports.test_importing import CHAT, log, logged

RUBRIC = "says when the shop closes"
RIGHT, WRONG = "It closes at six.", "I do not know."
VOTES = 2


def shop_log(path: Path, calls: int, rated: bool = True) -> Path:
    """Every second answer is right. All have the rubric, which no reference answer goes with."""
    lines = []
    for number in range(calls):
        right = number % 2 == 0
        thumbs = {"thumbs": "up" if right else "down"} if rated else {}
        about = {"session": f"c{number}", "user": f"u{number}", "feedback": {"rubric": RUBRIC, **thumbs}}
        lines.append(logged(str(number), said(number), RIGHT if right else WRONG, metadata=about))
    return log(path, *lines)


def judging(messages: tuple[Message, ...], seed: int) -> str:
    """Passes what does as the rubric says, and nothing where there is none."""
    read = json.loads(messages[1].content)
    meets = read.get("requirements") == [RUBRIC] and "six" in read["answer"]
    return f"It {'does' if meets else 'does not'}.\nVerdict: {'PASS' if meets else 'FAIL'}"


def load(path: str, model: ModelConfig) -> Policy:
    """The distilled model knows when the shop closes, its start model does not."""
    if path.endswith("checkpoint"):
        return ScriptedPolicy(lambda messages, seed: RIGHT, name="distilled", batch_size=16)
    return ScriptedPolicy(lambda messages, seed: player(messages, seed) if "study" in messages[0].content else WRONG)


CONTEXT = StageContext(load)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Message, ...]]:
    """What the judge read."""
    read: list[tuple[Message, ...]] = []

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        read.append(messages)
        return judging(messages, seed)

    policy = ScriptedPolicy(respond, name="judge")
    monkeypatch.setattr("oel_core.cases.scorers.judge._policy", lambda settings: policy)
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")
    return read


def judged(inbox: Path) -> OelConfig:
    options = {"model": {"path": "judge"}, "votes": VOTES}
    return config(inbox, scorer="judge", options=options, judge_rated=20)


def imported(root: Path, rated: bool) -> Round:
    """A round whose inbox comes from a log, with everything up to its evaluation."""
    source = shop_log(root / "log.jsonl", 100, rated)
    import_logs(Import(CHAT, source, root / "inbox", "recorded", Privacy.KEEP, 1.0))
    return measured(begun(open_run(root, "shop"), judged(root / "inbox"), 1), CONTEXT)


def decided(round: Round) -> tuple[Verdict, Check]:
    gate(round, CONTEXT)
    verdict = read_verdict(round.run, round.number)
    (check,) = (one for one in verdict.checks if one.name == "scorer")
    return verdict, check


def test_a_model_is_promoted_for_what_a_rubric_asks(tmp_path: Path, asked: list[tuple[Message, ...]]) -> None:
    round = imported(tmp_path, rated=True)
    assert {case.rubrics for case in read_cases(round.path / CASES)} == {(RUBRIC,)}
    assert {case.answers for case in read_cases(round.path / CASES)} == {()}
    verdict, check = decided(round)
    assert verdict.promote
    assert (verdict.held_out.first, verdict.held_out.second) == (0.0, 1.0)
    assert (check.passed, check.value) == (True, pytest.approx(1.0))
    assert "the judge agrees with people on" in check.bound
    orders = [list(json.loads(document.content)).index("answer") == 1 for _, document in asked]
    assert orders.count(True) == orders.count(False) == len(orders) / 2, "half of the votes read the answer first"
    assert all(("thumb" not in document.content) for _, document in asked)
    chosen = Selection.model_validate_json((round.stage("select").path / "scores.json").read_bytes())
    assert (chosen.undecided, len(chosen.chosen)) == ("", 1)


def test_a_judge_that_nobody_was_compared_with_decides_neither_the_gate_nor_the_knowledge(
    tmp_path: Path, asked: list[tuple[Message, ...]]
) -> None:
    round = imported(tmp_path, rated=False)
    verdict, check = decided(round)
    assert not verdict.promote
    assert verdict.held_out.second == 1.0
    assert not check.passed
    assert check.bound.startswith("the judge was compared with people on 0 answers")
    chosen = Selection.model_validate_json((round.stage("select").path / "scores.json").read_bytes())
    assert chosen.undecided == check.bound
    assert [file.weight for file in chosen.chosen] == [0.5, 0.5]
