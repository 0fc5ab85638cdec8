"""Our IF-Eval scores against lm-evaluation-harness's own scoring of the same responses. Needs the extra `lm-eval`.

The prompts are the public ones where `OEL_SHARED` says they lie, else the few of `ifeval_data.py`. Responses are
templates that follow some instructions and break others, so that both verdicts occur often.
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from oel_core.evaluation import make_suite
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.harness.punkt import provide_punkt
from oel_core.evaluation.ifeval import Ifeval, IfevalPrompt
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.types import Message, Trajectory
from tests.evaluation.ifeval_data import write_prompts
from tests.evaluation.players import small_config

pytestmark = pytest.mark.slow
pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")

PIECES = (
    "<<A Title>>",
    "* one\n* two\n* three",
    "SECTION 1\nWords by Dr. Who. They go on.\n\nSECTION 2\nMore words, e.g. these!",
    "*highlighted* and *this too* and **that**",
    "all lower case here and no comma",
    "ALL IN CAPITALS. REALLY.",
    '{"json": [1, 2]}',
    "Dear [name], meet me at [place] on [date].",
    "First paragraph.\n***\nSecond paragraph.\n***\nThird.",
    "P.S. I forgot this. P.P.S. And that.",
    "Esto es una frase en español, con comas.",
    '"Everything in quotes."',
    "Is there anything else I can help with?",
    "My answer is yes.",
    " ".join(["word"] * 320),
)


def template(prompt: str, seed: int) -> str:
    """Some pieces, and sometimes a part of the prompt itself."""
    rng = random.Random(seed)
    chosen = rng.sample(PIECES, rng.randint(1, 5))
    return "\n\n".join([prompt[: rng.randint(0, 200)], *chosen] if rng.random() < 0.4 else chosen)


def data(folder: Path) -> Path:
    shared = Path(os.environ.get("OEL_SHARED", "")) / "data" / "ifeval" / "input_data.jsonl"
    return shared if shared.is_file() else write_prompts(folder, range(100, 320))


def own_score(suite: Ifeval) -> tuple[dict[str, Any], list[Trajectory]]:
    played: list[Trajectory] = []

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        return template(messages[-1].content, seed)

    report = suite.run(ScriptedPolicy(respond), on_episode=played.append)
    return {**report.extra, "passed": report.passed}, played


def harness_score(prompts: list[IfevalPrompt], answers: list[str]) -> list[dict[str, Any]]:
    """The harness's own function for one document, fed as its task feeds it."""
    from lm_eval.tasks.ifeval import utils

    return [
        utils.process_results(
            {
                "key": prompt.key,
                "prompt": prompt.prompt,
                "instruction_id_list": list(prompt.instruction_id_list),
                "kwargs": [dict(entry) for entry in prompt.kwargs],
            },
            [answer],
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


class FirstChoice(random.Random):
    """For a letter that is none ("!"), the harness draws one at random for each check."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


def test_scores_agree_with_the_harness_on_hundreds_of_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks.ifeval import instructions

    monkeypatch.setattr(instructions, "random", FirstChoice(0))
    suite = make_suite("ifeval", {"data": str(data(tmp_path)), "sampling": {"max_tokens": 4096}}, small_config())
    assert isinstance(suite, Ifeval)
    extra, played = own_score(suite)
    by_id = {episode.id: episode for episode in played}
    answers = [by_id[f"ifeval-{prompt.key}"].turns[0].response for prompt in suite.prompts]
    theirs = harness_score(suite.prompts, answers)
    assert len(theirs) >= 200
    for prompt, answer, verdict in zip(suite.prompts, answers, theirs, strict=True):
        checked = lm_harness.check_instructions(prompt, answer)
        assert list(checked.strict) == verdict["inst_level_strict_acc"], prompt.key
        assert list(checked.loose) == verdict["inst_level_loose_acc"], prompt.key
        assert by_id[f"ifeval-{prompt.key}"].passed == verdict["prompt_level_strict_acc"], prompt.key
    from lm_eval.tasks.ifeval.utils import agg_inst_level_acc

    for ours, name in (("strict", "strict"), ("loose", "loose")):
        of_prompts = [verdict[f"prompt_level_{name}_acc"] for verdict in theirs]
        of_instructions = agg_inst_level_acc([verdict[f"inst_level_{name}_acc"] for verdict in theirs])
        assert extra[f"prompt_level_{ours}"]["value"] == pytest.approx(sum(of_prompts) / len(of_prompts))
        assert extra[f"instruction_level_{ours}"]["value"] == pytest.approx(of_instructions)
    assert 0 < extra["instruction_level_strict"]["value"] < extra["instruction_level_loose"]["value"] < 1


def test_checking_again_gives_the_same_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    suite = make_suite("ifeval", {"data": str(data(tmp_path)), "subset": 60}, small_config())
    assert isinstance(suite, Ifeval)
    state = random.getstate()
    first = [lm_harness.check_instructions(one, template(one.prompt, one.key)) for one in suite.prompts]
    assert random.getstate() == state
    assert first == [lm_harness.check_instructions(one, template(one.prompt, one.key)) for one in suite.prompts]


def test_the_sentence_model_is_nltks_own() -> None:
    import punkt
    from nltk.tokenize.punkt import PunktTokenizer

    provide_punkt()
    read, shipped = PunktTokenizer("english")._params, punkt.load_model("english")
    assert read.abbrev_types == set(shipped.abbrev_types)
    assert read.sent_starters == set(shipped.sent_starters)
    assert read.collocations == set(shipped.collocations)
    assert dict(read.ortho_context) == dict(shipped.ortho_context)
    assert len(read.ortho_context) > 20_000
