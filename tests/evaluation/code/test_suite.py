"""The suite of small functions: right answers pass, wrong ones report their values."""

import json
from pathlib import Path

import pytest

from oel_core.errors import ConfigError
from oel_core.evaluation.code.suite import code_of, make_python_code, problems
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.types import Message
from tests.evaluation.players import small_config

SOLUTIONS: dict[str, str] = json.loads(Path(__file__).with_name("solutions.json").read_text())


def solver(messages: tuple[Message, ...], seed: int) -> str:
    """Knows every function, and one of them wrongly."""
    name = messages[-1].content.partition("def ")[2].partition("(")[0]
    code = SOLUTIONS[name] if name != "is_prime" else "def is_prime(number): return 1"
    return f"Here it is:\n```python\n{code}\n```\nIt does what you ask."


def test_every_problem_has_a_solution_and_a_wrong_one_fails() -> None:
    suite, episodes = make_python_code({}, small_config()), []
    report = suite.run(ScriptedPolicy(solver, name="solver"), on_episode=episodes.append)
    failed = [episode for episode in episodes if not episode.passed]
    assert [(one.id, one.feedback) for one in failed] == [("python-code-is_prime", "is_prime(2,) gave 1, not True")]
    assert (report.suite, report.episodes, report.passed) == ("python_code", 40, 39)
    assert {problem.function for problem in problems()} == set(SOLUTIONS)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("def f(): pass", "def f(): pass"),
        ("```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("```\ndef f(): 1\n```\nFor example\n```\nf()\n```", "def f(): 1\n"),
        ("```\nx = 1\n```\nor\n```\ny = 1\n```", "y = 1\n"),
    ],
)
def test_the_code_is_found_in_an_answer(answer: str, code: str) -> None:
    assert code_of(answer, "f") == code


def test_a_subset_is_part_of_a_larger_one_and_named_so() -> None:
    small, large = (make_python_code({"episodes": count}, small_config()) for count in (8, 16))
    assert small.name == "python_code_subset_8"
    assert all(problem in large.asked for problem in small.asked)
    with pytest.raises(ConfigError, match="there are 40 problems"):
        make_python_code({"episodes": 41}, small_config())
