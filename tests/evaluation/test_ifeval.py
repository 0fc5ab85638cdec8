"""IF-Eval's figures, names, subsets and data, with stand-in checkers; the real ones: test_ifeval_agreement.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation import check_suites, make_suite
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.ifeval import Ifeval
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.types import EvalReport, Message
from tests.evaluation.ifeval_data import fake_checks, prompt, write_prompts
from tests.evaluation.players import small_config


@pytest.fixture(autouse=True)
def _checks(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_checks(monkeypatch)


def suite(data: Path, **options: Any) -> Ifeval:
    made = make_suite("ifeval", {"data": str(data), **options}, small_config())
    assert isinstance(made, Ifeval)
    return made


def run(made: Ifeval, answer: str) -> EvalReport:
    return made.run(ScriptedPolicy(lambda messages, seed: answer))


def test_the_four_accuracies_by_hand(prompts_file: Path) -> None:
    # 12 prompts, keys 100 to 111: the six even ones also ask for lower case, 18 instructions in all
    extra = run(suite(prompts_file), "*No comma but a capital").extra
    assert extra["prompt_level_strict"]["value"] == 6 / 12
    assert extra["instruction_level_strict"]["value"] == pytest.approx(12 / 18)
    assert extra["prompt_level_loose"]["value"] == extra["instruction_level_loose"]["value"] == 1.0
    for figure in ("prompt_level_strict", "instruction_level_strict", "prompt_level_loose", "instruction_level_loose"):
        assert 0 <= extra[figure]["low"] <= extra[figure]["value"] <= extra[figure]["high"] <= 1
    assert extra["instruction_level_strict"]["low"] < 12 / 18 < extra["instruction_level_strict"]["high"]


def test_the_pass_rate_is_prompt_level_strict(prompts_file: Path) -> None:
    report = run(suite(prompts_file), "all, small")
    assert report.pass_rate == 0.0 == report.extra["prompt_level_strict"]["value"]
    assert run(suite(prompts_file), "all small").pass_rate == 1.0


def test_only_what_follows_the_thinking_is_checked(prompts_file: Path) -> None:
    assert run(suite(prompts_file), "<think>A, B</think>fine").pass_rate == 1.0
    assert run(suite(prompts_file), "<think>fine").pass_rate == 0.0


def test_a_subset_says_so_everywhere(prompts_file: Path) -> None:
    part, whole = suite(prompts_file, subset=5), suite(prompts_file)
    report = run(part, "fine")
    assert (part.name, report.suite, whole.name) == ("ifeval_subset_5", "ifeval_subset_5", "ifeval")
    assert (report.episodes, report.extra["prompts"], report.extra["prompts_in_all"]) == (5, 5, 12)
    assert report.extra["is_subset"] is True
    assert run(whole, "fine").extra["is_subset"] is False
    assert {one.key for one in part.prompts} < {one.key for one in suite(prompts_file, subset=8).prompts}
    assert suite(prompts_file, episodes=5).name == "ifeval_subset_5", "the command line's word for it"


def test_answers_are_drawn_by_the_suites_seed_alone(prompts_file: Path) -> None:
    seen: list[dict[str, int]] = []

    def remember(messages: tuple[Message, ...], seed: int) -> str:
        seen[-1][messages[-1].content] = seed
        return "fine"

    for options in ({}, {"subset": 4}, {"seed": 7}):
        seen.append({})
        suite(prompts_file, **options).run(ScriptedPolicy(remember))
    assert seen[1].items() <= seen[0].items()
    assert not seen[2].items() & seen[0].items()


def test_the_papers_sampling_and_no_thinking_are_the_default(prompts_file: Path) -> None:
    made = suite(prompts_file)
    sampling = made.options.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, made.options.seed) == (0.7, 0.8, 20, 42)
    assert made.thinking is False


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2 is not JSON"),
        (json.dumps({**prompt(1), "kwargs": []}), "line 2: .*1 instructions, but 0 entries"),
        (json.dumps({**prompt(1), "key": "x"}), "line 2: key: "),
        (json.dumps({"prompt": "x"}), "line 2: key: Field required"),
        (json.dumps(prompt(100)), "has the key 100 more than once"),
    ],
)
def test_bad_data_is_named_by_line_and_field(tmp_path: Path, line: str, problem: str) -> None:
    path = write_prompts(tmp_path, range(100, 101))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=f"suite ifeval: .*{problem}"):
        suite(path)


def test_data_that_is_not_there_or_empty_or_too_small(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        suite(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="holds no prompts"):
        suite(tmp_path / "empty.jsonl")
    with pytest.raises(ConfigError, match=r"subset is 13, but .* has only 12"):
        suite(write_prompts(tmp_path), subset=13)


def test_without_the_extra_the_message_says_what_to_install(
    prompts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_harness, "installed", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'oel\[lm-eval\]'"):
        suite(prompts_file)


def test_two_suites_may_not_report_under_one_name(prompts_file: Path) -> None:
    config = small_config().model_dump()
    other = {"environment": "lake", "options": {"size": 4}, "episodes": 1}
    config["evaluate"]["ood"] = {"cross_game": other, "cross_game_lake": other}
    with pytest.raises(ConfigError, match=r"evaluate\.ood\.cross_game and evaluate\.ood\.cross_game_lake both"):
        check_suites(OelConfig.model_validate(config))


def test_line_separators_inside_a_prompt_do_not_end_its_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    values = {**prompt(7), "prompt": "one\u2028two\u0085three"}
    path.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
    (read,) = suite(path).prompts
    assert read.prompt == "one\u2028two\u0085three"
