"""Tasks of lm-evaluation-harness as suites: a task of our own in a folder, scored by the harness. Needs the extra."""

import json
from pathlib import Path
from typing import Any

import pytest

from oel_core.errors import ConfigError
from oel_core.evaluation import make_suite
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.harness.task import LmTask
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.types import EvalReport, Message, Trajectory
from tests.evaluation.players import small_config

pytestmark = pytest.mark.slow
pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")

TASK = """task: oel_sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
output_type: {kind}
test_split: test
doc_to_text: "What is {{{{a}}}} + {{{{b}}}}?"
doc_to_target: "{{{{a + b}}}}"
{more}
generation_kwargs: {{until: ["\\n"], max_gen_toks: 32, do_sample: false}}
filter_list:
  - name: number
    filter:
      - {{function: regex, regex_pattern: "(-?[0-9]+)"}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten sums as a harness task."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    lm_harness._manager.cache_clear()
    rows = [{"a": number, "b": 2 * number} for number in range(10)]
    (tmp_path / "sums.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_task(tmp_path)
    return tmp_path


def write_task(folder: Path, kind: str = "generate_until", more: str = "") -> None:
    (folder / "sums.yaml").write_text(TASK.format(data=folder / "sums.json", kind=kind, more=more))


def suite(folder: Path, **options: Any) -> LmTask:
    made = make_suite("oel_sums", {"folder": str(folder), **options}, small_config())
    assert isinstance(made, LmTask)
    return made


def sums(messages: tuple[Message, ...], seed: int) -> str:
    """Right for the first half; says more after a line's end, which does not count."""
    a, b = (int(word.strip("?")) for word in messages[-1].content.split()[2::2])
    return f"<think>{a}</think>It is {a + b if a < 5 else 1000}.\n17"


def run(made: LmTask) -> tuple[EvalReport, list[Trajectory]]:
    played: list[Trajectory] = []
    return made.run(ScriptedPolicy(sums, batch_size=3), on_episode=played.append), played


def test_a_task_is_asked_and_scored_by_its_own_rules(folder: Path) -> None:
    report, played = run(suite(folder))
    assert (report.suite, report.episodes, report.passed) == ("oel_sums", 10, 5)
    assert report.extra["figures"] == {"exact_match,number": 0.5}
    assert report.extra["headline"] == "exact_match,number"
    assert [episode.passed for episode in played] == [number < 5 for number in range(10)]
    assert played[0].turns[0].messages[-1].content == "What is 0 + 0?"


def test_a_killed_suite_goes_on(folder: Path) -> None:
    report, played = run(suite(folder))
    rest: list[Trajectory] = []
    again = suite(folder).run(ScriptedPolicy(sums, batch_size=3), done=played[:4], on_episode=rest.append)
    assert again == report
    assert [episode.id for episode in rest] == [episode.id for episode in played[4:]]


def test_a_subset_says_so(folder: Path) -> None:
    report, _ = run(suite(folder, subset=4))
    assert (report.suite, report.episodes, report.extra["is_subset"]) == ("oel_sums_subset_4", 4, True)


def test_few_shot_examples_become_earlier_turns_of_the_chat(folder: Path) -> None:
    write_task(folder, more="num_fewshot: 2\nfewshot_split: test")
    _, played = run(suite(folder, subset=3))
    roles = [message.role for message in played[0].turns[0].messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("kind", "more", "problem"),
    [
        ("loglikelihood", "", "scored by loglikelihood"),
        ("generate_until", "unsafe_code: true", "runs code that a model wrote"),
        ("generate_until", "repeats: 4", "4 times"),
        ("generate_until", "gen_prefix: 'The sum is'", "gen_prefix"),
    ],
)
def test_tasks_that_a_chat_policy_cannot_take_are_refused(folder: Path, kind: str, more: str, problem: str) -> None:
    write_task(folder, kind, more)
    with pytest.raises(ConfigError, match=problem):
        run(suite(folder))


def test_unknown_tasks_groups_and_metrics(folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown evaluation suite 'oel_products'"):
        make_suite("oel_products", {"folder": str(folder)}, small_config())
    with pytest.raises(ConfigError, match="no metric bleu; the task has exact_match,number"):
        run(suite(folder, metric="bleu"))
    (folder / "group.yaml").write_text("group: oel_all\ntask: [oel_sums]\n")
    lm_harness._manager.cache_clear()
    with pytest.raises(ConfigError, match="is a group: name one of its tasks, like oel_sums"):
        run(make_suite("oel_all", {"folder": str(folder)}, small_config()))  # type: ignore[arg-type]
