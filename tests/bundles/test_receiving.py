"""A bundle is distilled where there is no environment: to the same weights as where it was made."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from oel_core.bundles.making import make_bundle
from oel_core.bundles.reading import Bundle
from oel_core.bundles.synthesis import Unusable, WrittenPrompt
from oel_core.config.run import ModelConfig, parse_config
from oel_core.errors import ArtifactError, ConfigError, ExtractionError
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.preflight.check import check
from oel_core.rounds.context import CHECKPOINT, StageContext
from oel_core.rounds.round import Round
from oel_core.rounds.summary import summarise_run
from oel_core.runs.folder import adopt_config
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages.distill import distill
from oel_core.stages.exchange.receive import receive
from oel_core.stages.round import round_stages, run_round
from oel_core.types import Message
from tests.bundles.rounds import SCRIPTED, load, played, player, received
from tests.fakes import tiny_model_folder


@pytest.fixture
def bundle(tmp_path: Path, model: Path) -> Bundle:
    return make_bundle(played(tmp_path, model), tmp_path / "a.zip")


@pytest.fixture
def knowledge_only(tmp_path: Path, model: Path) -> Bundle:
    return make_bundle(played(tmp_path, model), tmp_path / "k.zip", knowledge_only=True)


def weights(round: Round) -> dict[str, Any]:
    folder = round.stage("distill").path / CHECKPOINT
    return {path.name: load_file(path) for path in folder.glob("*.safetensors")}


@pytest.mark.numeric
def test_the_other_side_trains_the_same_weights_without_the_environment(
    tmp_path: Path, model: Path, bundle: Bundle
) -> None:
    here, there = played(tmp_path, model), received(tmp_path, model, bundle.path)
    distill(here)
    check(there.config)
    run_round(there, SCRIPTED)
    ours, theirs = weights(here), weights(there)
    assert ours.keys() == theirs.keys() != set()
    for name, tensors in ours.items():
        assert all((tensor == theirs[name][key]).all() for key, tensor in tensors.items())
    assert [stage.name for stage in round_stages(there)] == ["receive", "accumulate", "distill"]


def test_fewer_episodes_than_the_steps_need_are_repeated_in_full_passes(
    tmp_path: Path, model: Path, bundle: Bundle
) -> None:
    distilled = {"steps": 3, "episodes_per_step": 3, "max_response_tokens": 4, "top_k": 4}
    there = received(tmp_path, model, bundle.path, distill=distilled)
    run_round(there, SCRIPTED)
    steps = [json.loads(line) for line in (there.stage("distill").path / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]


def test_what_was_received_is_not_asked_for_again_and_another_bundle_is_noticed(
    tmp_path: Path, model: Path, bundle: Bundle
) -> None:
    there = received(tmp_path, model, bundle.path)
    first = receive(there, SCRIPTED)
    assert receive(there, SCRIPTED) == first
    other = make_bundle(played(tmp_path, model, "other", seed=5), tmp_path / "b.zip")
    with pytest.raises(ArtifactError, match="input bundle"):
        receive(received(tmp_path, model, other.path), SCRIPTED)


def test_a_bundle_for_another_model_is_taken_with_a_warning(
    tmp_path: Path, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    receive(received(tmp_path, tiny_model_folder(tmp_path, seed=7), bundle.path), SCRIPTED)
    assert "knowledge of another model helps less" in caplog.text


def test_the_digest_pins_the_bundle(tmp_path: Path, model: Path, bundle: Bundle) -> None:
    receive(received(tmp_path, model, bundle.path, experience={"bundle_digest": bundle.digest}), SCRIPTED)
    with pytest.raises(ArtifactError, match=f"has the digest {bundle.digest}, not 000"):
        check(received(tmp_path, model, bundle.path, experience={"bundle_digest": "0" * 64}).config)


def test_another_number_of_files_is_an_error_that_says_which(tmp_path: Path, model: Path, bundle: Bundle) -> None:
    wrong = received(tmp_path, model, bundle.path, collect={"replicas": 5, "extraction_episodes": 3})
    with pytest.raises(ConfigError, match=r"set collect\.replicas=2"):
        check(wrong.config)


@pytest.mark.parametrize(
    "values",
    [
        {"rounds": 2},
        {"rounds": 1, "knowledge": {"selection": {"use": "best"}}},
        {"rounds": 1, "knowledge": {"source": {"use": "raw"}}},
        {"rounds": 1, "knowledge": {"saturation": {"every": 1}}},
        {"rounds": 1, "distill": {"regime": "sft"}},
        {"rounds": 1, "experience": {"bundle": "a.zip", "inbox": "in"}},
        {"rounds": 1, "experience": {"bundle": "a.zip", "bundle_digest": "abc"}},
    ],
)
def test_settings_that_need_an_environment_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="bundle"):
        parse_config({"experience": {"bundle": "a.zip"}} | values, "test")


def test_suites_are_all_that_is_measured_and_the_table_has_a_row_for_each_round(
    tmp_path: Path, model: Path, bundle: Bundle
) -> None:
    suites = {"games": {"episodes": 1, "arms": ["in_context"]}, "ood": {"other_symbols": {"episodes": 1}}}
    there = received(tmp_path, model, bundle.path, evaluate=suites, environment={"name": "lake"})
    adopt_config(there.run, there.config)
    for number in (0, 1):
        run_round(there.at(number), SCRIPTED)
    assert [stage.name for stage in round_stages(there)][-1] == "evaluate/ood/other_symbols"
    rows = summarise_run(there.run)
    assert [(row.round, row.pass_rate, len(row.ood)) for row in rows] == [(0, None, 1), (1, None, 1)]


def rows_of(round: Round) -> list[WrittenPrompt]:
    return list(read_jsonl(round.stage("receive").path / "synthesis.jsonl", WrittenPrompt))


def writing(round: Round, count: int, answer: Any = None) -> StageContext:
    """A context whose policy answers the n-th request for a prompt with `answer(n)`."""
    asked = iter(range(count * 4))

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        return str(answer(next(asked))) if "You write examples" in messages[0].content else player(messages, seed)

    def loaded(path: str, model: ModelConfig) -> Policy:
        return ScriptedPolicy(respond, batch_size=4)

    return StageContext(loaded if answer else load)


def test_prompts_are_written_from_knowledge_where_there_are_none(
    tmp_path: Path, model: Path, knowledge_only: Bundle
) -> None:
    there = received(tmp_path, model, knowledge_only.path, experience={"synthesis": {"prompts": 6}})
    manifest = receive(there, SCRIPTED)
    prompts = there.received_prompts()
    assert manifest.counts["prompts"] == len(prompts) == 6
    assert all(prompt.messages[0].content.startswith("Which way is the goal") for prompt in prompts)
    known = "\n".join(item.text for entry in knowledge_only.knowledge() for item in entry.items)
    assert all(row.advice in known for row in rows_of(there))
    run_round(there, SCRIPTED)
    assert weights(there)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", Unusable.EMPTY),
        ("x" * 400, Unusable.CUT),
        ("I know that the goal is to the right, note 603.", Unusable.REPEATS_ADVICE),
        ("Where to?", Unusable.WRITTEN_BEFORE),
    ],
)
def test_answers_that_are_no_prompt_are_left_out_and_counted(
    tmp_path: Path, model: Path, knowledge_only: Bundle, answer: str, reason: Unusable
) -> None:
    advice = "the goal is to the right, note 603"
    items = [item.text for entry in knowledge_only.knowledge() for item in entry.items]
    assert any(advice in text for text in items), items
    settings = {"synthesis": {"prompts": 12, "sampling": {"max_tokens": 100}}}
    there = received(tmp_path, model, knowledge_only.path, experience=settings)
    context = writing(there, 12, lambda n: "Where to?" if n == 0 else answer)
    manifest = receive(there, context)
    found = [row.unusable for row in rows_of(there)]
    assert found[0] is None
    assert reason in found
    assert manifest.counts[f"synthesis_{reason.value}"] == found.count(reason)
    assert manifest.counts["prompts"] == found.count(None)


def test_no_usable_prompt_at_all_is_an_error_that_says_why(tmp_path: Path, model: Path, knowledge_only: Bundle) -> None:
    there = received(tmp_path, model, knowledge_only.path, experience={"synthesis": {"prompts": 3}})
    with pytest.raises(ExtractionError, match=r"not one of 3 answers is a usable prompt \(empty\)"):
        receive(there, writing(there, 3, lambda n: " "))


def test_a_killed_synthesis_goes_on_with_the_same_prompts(tmp_path: Path, model: Path, knowledge_only: Bundle) -> None:
    class Killed(BaseException):
        """Stands for SIGKILL."""

    seen: list[int] = []

    def kill(done: int, total: int) -> None:
        seen.append(done)
        if done == 6:
            raise Killed

    settings = {"synthesis": {"prompts": 10}}
    whole = received(tmp_path, model, knowledge_only.path, "whole", experience=settings)
    receive(whole, SCRIPTED)
    broken = received(tmp_path, model, knowledge_only.path, "broken", experience=settings)
    with pytest.raises(Killed):
        receive(broken, StageContext(load, on_progress=kill))
    partial = broken.path / ".receive.partial" / "synthesis.jsonl"
    partial.write_bytes(partial.read_bytes()[:-9])  # a torn line
    receive(broken, SCRIPTED)
    assert rows_of(broken) == rows_of(whole)
    assert broken.stage("receive").digest() == whole.stage("receive").digest()


def test_synthesis_depends_on_its_settings_and_received_prompts_do_not(
    tmp_path: Path, model: Path, bundle: Bundle, knowledge_only: Bundle
) -> None:
    few, more = ({"synthesis": {"prompts": count}} for count in (3, 4))
    receive(received(tmp_path, model, knowledge_only.path, "k", experience=few), SCRIPTED)
    with pytest.raises(ArtifactError, match=r"experience\.synthesis\.prompts: 3 → 4"):
        receive(received(tmp_path, model, knowledge_only.path, "k", experience=more), SCRIPTED)
    first = receive(received(tmp_path, model, bundle.path, "p", experience=few), SCRIPTED)
    assert receive(received(tmp_path, model, bundle.path, "p", experience=more), SCRIPTED) == first


def test_hygiene_looks_at_received_items(tmp_path: Path, model: Path, bundle: Bundle) -> None:
    screened = {"max_tokens": 400, "hygiene": {"policy": "drop", "max_words": 3}, "allow_empty": True}
    there = received(tmp_path, model, bundle.path, knowledge=screened)
    for stage in round_stages(there)[:2]:
        stage.work(there, SCRIPTED)
    assert all(not entry.items for entry in there.merged_knowledge())
    assert (there.stage("accumulate").path / "flagged.jsonl").read_text().count("\n") == bundle.manifest.items
