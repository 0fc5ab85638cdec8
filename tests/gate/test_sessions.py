"""The gate's condition on sessions of the deployment, read from an inbox as the gateway leaves it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.run import OelConfig
from oel_core.gate.promotion import Verdict
from oel_core.gate.sessions import by_version, version_name, with_deployment
from oel_core.projects.deployment import DEPLOYMENT, ShadowAnswer, Withdrawal
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.types import Feedback, Trajectory
from tests.builders import episode
from tests.gate.test_promotion import played, rate, results, verdict
from tests.runs_on_disk import finished_run


def passed() -> Verdict:
    """On everything that was played."""
    return verdict(results(2, played(rate(90))), results(1, played(rate(20))))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Round 2 is the candidate, round 1 the champion; their models differ."""
    run = finished_run(tmp_path / "runs", "shop", rounds=2)
    for number in (1, 2):
        folder = run.stage_path(number, "distill") / "checkpoint"
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"weights %d" % number)
        for name in ("config.json", "tokenizer.json"):
            (folder / name).write_text("{}")
    (tmp_path / "inbox" / DEPLOYMENT).mkdir(parents=True)
    return run


def config_of(run: RunFolder, scorer: str | None = "exact", **changes: Any) -> OelConfig:
    values = run.config().model_dump()
    values["experience"]["inbox"] = str(run.path.parents[1] / "inbox")
    values["gate"]["deployment"] = changes
    values["evaluate"]["cases"]["scorer"] = scorer
    return OelConfig.model_validate(values)


def version(run: RunFolder, number: int) -> str:
    return version_name("shop", str(number), Round(run.config(), run, number).model())


def session(policy: str, number: int, *given: Feedback, reward: float = 0.0) -> Trajectory:
    base = episode(f"served-{policy[:6]}-{number}", answers=("wrong",))
    turns = (base.turns[0].model_copy(update={"given": given}),)
    changes = {"policy": policy, "turns": turns, "reward": reward, "at": float(number), "session": f"s{number}"}
    return base.model_copy(update=changes)


def written(run: RunFolder, episodes: Sequence[Trajectory], shadows: Sequence[ShadowAnswer] = ()) -> Path:
    inbox = run.path.parents[1] / "inbox"
    (inbox / "served-2026-01-01.jsonl").write_bytes(jsonl_bytes(episodes))
    (inbox / DEPLOYMENT / "shadow-2026-01-01.jsonl").write_bytes(jsonl_bytes(shadows))
    return inbox


def test_a_gate_that_does_not_ask_keeps_its_verdict(run: RunFolder) -> None:
    assert with_deployment(Round(config_of(run, use="off"), run, 2), 1, passed()) == passed()


def test_a_candidate_waits_for_canary_sessions_and_then_passes(run: RunFolder) -> None:
    round = Round(config_of(run, use="canary"), run, 2)
    assert passed().promote
    waiting = with_deployment(round, 1, passed())
    assert (waiting.promote, waiting.refusals) == (False, ["deployment"])
    thumbs = [Feedback(source="human", thumbs=value) for value in (False, True)]
    both = [
        session(version(run, 1 + number % 2), number, thumbs[number % 2], reward=float(number % 2))
        for number in range(120)
    ]
    written(run, both)
    found = with_deployment(round, 1, passed())
    assert found.promote
    assert found.deployment is not None
    assert (found.deployment.candidate, found.deployment.champion) == (1.0, 0.0)
    written(run, [one.model_copy(update={"policy": version(run, 3 - int(one.policy.split("-")[1]))}) for one in both])
    assert with_deployment(round, 1, passed()).refusals == ["deployment"]


def test_shadow_answers_are_scored_on_answers_that_do_not_depend_on_the_champions_fault(run: RunFolder) -> None:
    round = Round(config_of(run, use="shadow"), run, 2)
    for kind, enough in (("expected", True), ("correction", False)):
        said = Feedback.model_validate({"source": "human", kind: "right"})
        episodes = [session(version(run, 1), number, said) for number in range(60)]
        shadows = [
            ShadowAnswer(episode=one.id, turn=0, candidate=version(run, 2), response="right", at=0.0)
            for one in episodes
        ]
        written(run, episodes, shadows)
        found = with_deployment(round, 1, passed())
        assert found.promote == enough
        assert found.deployment is not None
        assert found.deployment.sessions == (60 if enough else 0)


def test_what_cannot_be_compared_is_said(run: RunFolder) -> None:
    written(run, [])
    found = with_deployment(Round(config_of(run, scorer=None, use="shadow"), run, 2), 1, passed())
    assert "set evaluate.cases.scorer" in found.checks[-1].bound
    assert not found.promote


def test_versions_are_listed_with_their_sessions(run: RunFolder) -> None:
    one, two = version(run, 1), version(run, 2)
    rated = session(one, 1, Feedback(source="human", score=0.5), reward=0.5)
    shadow = ShadowAnswer(episode=rated.id, turn=0, candidate=two, response="x", at=0.0)
    inbox = written(run, [rated, session(one, 2)], [shadow, shadow])
    (inbox / DEPLOYMENT / "withdrawn.jsonl").write_bytes(
        jsonl_bytes([Withdrawal(version=two, reason="it failed", at=0.0)])
    )
    assert [tuple(row.model_dump().values()) for row in by_version(inbox)] == [
        (one, 2, 1, 0.5, 0, ""),
        (two, 0, 0, None, 1, "it failed"),
    ]
