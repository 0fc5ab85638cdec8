"""A policy in several workers gives what it gives in one process: episodes, extraction, questions, resumed or not."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs, policies
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.config.sampling import Sampling
from oel_core.config.serving import RunnerConfig
from oel_core.envs.base import EnvSpec
from oel_core.errors import ConfigError, PromptTooLongError
from oel_core.evaluation.questions import Question, QuestionSet, Score
from oel_core.knowledge.extraction import extract_replicas
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.replicated import ray_workers
from oel_core.policies.replicated.policy import ReplicatedPolicy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.preflight.check import check_engines
from oel_core.rollouts.planning import EpisodePlan, plan_episodes
from oel_core.rollouts.playing import play_episodes
from oel_core.rollouts.recording import play_into
from oel_core.runs.progress import silent
from oel_core.testing import check_policy
from oel_core.types import Message, Split, Trajectory
from tests.builders import timeless
from tests.fakes import CORRIDOR
from tests.policies.replicated.workers import FakeWorker

MODEL = ModelConfig(path="scripted", backend="tests.policies.replicated.test_policy:load")
LONGEST = 400
"""Characters of a prompt."""


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(envs.REGISTRY, *CORRIDOR)
        yield


class Short(ScriptedPolicy):
    """Refuses long prompts."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        sizes = [sum(len(message.content) for message in request.messages) for request in requests]
        problems = {at: f"{size} characters" for at, size in enumerate(sizes) if size > LONGEST}
        if problems:
            raise PromptTooLongError(problems)
        return super().generate(requests, sampling)


def wander(messages: tuple[Message, ...], seed: int) -> str:
    return ("go [left]", "go [right]", f"- walls do not move {seed}")[seed % 3]


def load(path: str, config: ModelConfig) -> Policy:
    return Short(wander, batch_size=3)


def replicated(*workers: FakeWorker) -> ReplicatedPolicy:
    return ReplicatedPolicy(workers or [FakeWorker(), FakeWorker(lost={1, 3})], MODEL.path, MODEL, load)


def config(**options: Any) -> OelConfig:
    values = {"model": MODEL.model_dump(), "environment": {"name": "corridor", "max_turns": 4, "options": options}}
    return parse_config({**values, "play": {"sampling": {"max_tokens": 40}}}, "test")


def plans(count: int) -> list[EpisodePlan]:
    return plan_episodes(EnvSpec("corridor"), 0, Split.EXTRACT, 1, 0, count, False)


def test_it_keeps_the_contract() -> None:
    check_policy(replicated())


@pytest.mark.parametrize("options", [{}, {"fail": "step"}, {"fail": "start"}, {"pad": 500}])
def test_episodes_are_those_of_one_process(options: dict[str, Any]) -> None:
    spec, play = EnvSpec("corridor", options, max_turns=4), config().play

    def knowledge(plan: EpisodePlan, environment: Any) -> str:
        return f"text {plan.index % 2}"

    def played(policy: Policy) -> list[Trajectory]:
        return timeless(list(play_episodes(policy, spec, plans(11), play, knowledge=knowledge, seed=5)))

    assert played(replicated()) == played(load("", MODEL))


@pytest.mark.parametrize("others", [True, False])
def test_a_stage_goes_on_with_the_other_runner(tmp_path: Path, others: bool) -> None:
    """Killed within a group, in the middle of a line: what is missing is played, and nothing is there twice."""
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    first, second = (load("", MODEL), replicated())[:: 1 if others else -1]
    play_into(whole, config(), first, plans(11), silent)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 5])
    expected = timeless([Trajectory.model_validate_json(line) for line in whole.read_text().splitlines()])
    assert timeless(play_into(cut, config(), second, plans(11), silent)) == expected
    found = timeless([Trajectory.model_validate_json(line) for line in cut.read_text().splitlines()])
    assert found == expected


@pytest.mark.parametrize("with_previous", [True, False])
def test_extraction_is_that_of_one_process(with_previous: bool) -> None:
    settings = config()
    played = list(play_episodes(load("", MODEL), EnvSpec("corridor", max_turns=4), plans(12), settings.play, seed=5))
    replicas = {number: played[number::5] for number in range(5)}

    def extracted(policy: Policy) -> tuple[Any, list[Any]]:
        rows: list[Any] = []
        found = extract_replicas(
            policy,
            replicas,
            settings.extract.model_copy(update={"with_previous": with_previous, "use_after": 1}),
            task="Learn.",
            previous={},
            cap=settings.knowledge,
            round_index=1,
            seed=3,
            on_row=lambda replica, row: rows.append((replica, row)),
        )
        return found, rows

    assert extracted(replicated()) == extracted(load("", MODEL))


def test_answers_to_questions_are_those_of_one_process() -> None:
    questions = tuple(
        Question(f"q{n}", (Message(role="user", content="?" * (500 if n == 4 else n)),), n, n) for n in range(10)
    )
    asking = QuestionSet("quiz", questions, Sampling(), lambda at, answer: Score(float("left" in answer), answer))

    def answered(policy: Policy) -> list[Trajectory]:
        return timeless(asking.run(policy, (), lambda episode: None))

    found = answered(replicated())
    assert found == answered(load("", MODEL))
    assert [episode.error is not None for episode in found] == [n == 4 for n in range(10)]


def test_a_prompt_that_is_too_long_is_named_by_its_place_in_the_whole_batch() -> None:
    requests = [Request((Message(role="user", content="?" * (500 if n == 4 else 1)),), n) for n in range(7)]
    with pytest.raises(PromptTooLongError) as refused:
        replicated().generate(requests, Sampling())
    assert set(refused.value.problems) == {4}


def test_workers_are_kept_for_the_next_checkpoint_and_ended_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[FakeWorker]] = []

    def start(runner: RunnerConfig) -> list[FakeWorker]:
        made.append([FakeWorker() for _ in range(runner.workers)])
        return made[-1]

    monkeypatch.setattr(ray_workers, "start_workers", start)
    runner = RunnerConfig(use="ray", workers=3)
    first = policies.place_policy("one", MODEL, runner, load)
    policies.place_policy("two", MODEL, runner, load)
    assert len(made) == 1
    assert len(made[0]) == 3
    assert first.name == "scripted"
    policies.release()
    assert all(worker.closed for worker in made[0])
    policies.place_policy("one", MODEL, runner, load)
    policies.release()
    assert len(made) == 2


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'oel\[ray\]'"):
        check_engines(parse_config({"runner": {"use": "ray"}}, "test"))
    check_engines(parse_config({}, "test"))


def test_a_worker_that_fits_on_no_node_is_refused_on_this_machine_and_waited_for_on_a_cluster(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0, "memory": 4e9}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0, "memory": 4e9}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 4e9}},
    ]
    ray_workers.check_room(nodes, {"CPU": 1.0, "GPU": 0.5, "memory": 0.0}, "local")
    with pytest.raises(ConfigError, match=r"\(CPU 2, GPU 1\). There are: CPU 2; CPU 1, GPU 1$"):
        ray_workers.check_room(nodes, {"CPU": 2.0, "GPU": 1.0}, "local")
    ray_workers.check_room(nodes, {"CPU": 2.0, "GPU": 1.0}, "10.0.0.1:6379")
    assert "Waiting for one" in caplog.text
