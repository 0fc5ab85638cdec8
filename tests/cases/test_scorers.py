"""Scorers by name: passes, failures, and cases that cannot be scored."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oel_core.cases.scorers import make_scorer
from oel_core.cases.scorers.structured import make_json_equal
from oel_core.cases.tool_calls import MAX_CHARACTERS, MAX_FAILURES, calls_in
from oel_core.errors import ConfigError, PolicyError
from oel_core.plugins.builtin import SCORERS
from tests.cases.sessions import case

CALL = '{"name": "close", "arguments": {"order": "A1", "now": true}}'
ASSERTS = "assert area(2, 3) == 6"


@pytest.mark.parametrize(
    ("name", "options", "right", "answer", "passed"),
    [
        ("exact", {}, "A243", " A243\n", True),
        ("exact", {}, "A243", "a243", False),
        ("normalised", {}, "The order A243.", "order a243!", True),
        ("normalised", {}, "A243", "A244", False),
        ("contains", {}, "A243", "It is order a243, closed.", True),
        ("contains", {}, "A24", "It is order A243.", False),
        ("contains", {}, "...", "It is order A243.", False),
        ("regex", {"pattern": r"\bA\d{3}\b"}, "", "order A243", True),
        ("regex", {"pattern": r"^order {answer}$"}, "A.3", "order A.3", True),
        ("regex", {"pattern": r"^order {answer}$"}, "A.3", "order A13", False),
        ("regex", {"pattern": r"^[{answer}]$"}, "]", "]", True),
        ("json_equal", {}, '{"a": 1, "b": [true]}', 'So:\n```json\n{"b": [true], "a": 1.0}\n```\n', True),
        ("json_equal", {}, '{"a": 1}', 'I think {"a": 2} is wrong and {"a": 1} right', True),
        ("json_equal", {}, '{"a": 1}', '{"a": true}', False),
        ("json_equal", {}, '{"a": 1}', '{"a": 1, "b": 2}', False),
        ("json_equal", {"ignore": ["b"]}, '{"a": 1}', '{"a": 1, "b": 2}', True),
        ("json_equal", {}, "no json", "no json", False),
        ("tool_call_equal", {}, CALL, f"<tool_call>\n{CALL}\n</tool_call>", True),
        ("tool_call_equal", {}, CALL, '{"name": "close", "parameters": {"now": true, "order": "A1"}}', True),
        (
            "tool_call_equal",
            {},
            CALL,
            json.dumps({"name": "close", "arguments": '{"now": true, "order": "A1"}'}),
            True,
        ),
        ("tool_call_equal", {}, CALL, CALL.replace("true", "1"), False),
        ("tool_call_equal", {}, CALL, CALL.replace("close", "open"), False),
        ("tool_call_equal", {}, CALL, f"{CALL}\n{CALL}", False),
        ("tool_call_equal", {}, CALL, "I closed it.", False),
        ("tool_call_equal", {"ignore": ["now"]}, CALL, '{"name": "close", "arguments": {"order": "A1"}}', True),
        ("tool_call_equal", {}, f"{CALL}\n{CALL.replace('A1', 'A2')}", f"{CALL.replace('A1', 'A2')}\n{CALL}", True),
        (
            "tool_call_equal",
            {"ordered": True},
            f"{CALL}\n{CALL.replace('A1', 'A2')}",
            f"{CALL.replace('A1', 'A2')}\n{CALL}",
            False,
        ),
        ("python", {}, "", "```python\nx = sum([1, 2])\n```", True),
        ("python", {}, "", "```python\nx = 1 / 0\n```", False),
        ("python", {}, "", "import socket\nsocket.socket()", False),
        ("python", {"asserts": True}, ASSERTS, "def area(a, b):\n    return a * b", True),
        ("python", {"asserts": True}, ASSERTS, "def area(a, b):\n    return a + b", False),
        ("python", {"asserts": True}, ASSERTS, "raise SystemExit(0)", False),
    ],
)
def test_what_passes(name: str, options: dict[str, Any], right: str, answer: str, passed: bool) -> None:
    found = make_scorer(name, options).score(case(0, right), answer)
    assert (found.reward, bool(found.feedback)) == (float(passed), True)


def test_any_of_several_right_answers_passes() -> None:
    several = case(0, "yes", "A243")
    for name in ("exact", "normalised", "contains"):
        assert make_scorer(name, {}).score(several, "A243").reward == 1.0
        assert make_scorer(name, {}).score(several, "no").reward == 0.0


@pytest.mark.parametrize(
    ("name", "options", "without", "with_text"),
    [
        ("exact", {}, False, True),
        ("regex", {"pattern": "x"}, True, True),
        ("regex", {"pattern": "x{answer}"}, False, True),
        ("tool_call_equal", {}, False, False),
        ("python", {}, True, True),
        ("python", {"asserts": True}, False, True),
    ],
)
def test_what_can_be_scored(name: str, options: dict[str, Any], without: bool, with_text: bool) -> None:
    scorer = make_scorer(name, options)
    assert (scorer.scores(case(0)), scorer.scores(case(0, "text"))) == (without, with_text)


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("exac", {}, "unknown scorer 'exac': did you mean exact"),
        ("exact", {"x": 1}, "scorer exact: x: no such setting"),
        ("regex", {}, "scorer regex: pattern: is missing"),
        ("regex", {"pattern": "("}, "scorer regex: pattern: it is no regular expression"),
        ("judge", {}, "scorer judge: model: is missing"),
        ("mlflow", {"scorer": "NoSuchScorer"}, "has no attribute NoSuchScorer"),
        ("mlflow", {"scorer": "tests.cases.sessions:said"}, "is no scorer of MLflow"),
        ("tests.cases.sessions:nothing", {}, "has no attribute nothing"),
    ],
)
def test_a_wrong_name_or_option_is_said(name: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make_scorer(name, options)


def test_every_scorer_has_a_test() -> None:
    assert set(SCORERS.builtin) == {
        "exact", "normalised", "contains", "regex", "json_equal", "tool_call_equal", "python", "mlflow", "judge",
    }  # fmt: skip


class Polite:
    """Like a scorer of MLflow."""

    def run(self, *, inputs: Any, outputs: Any, expectations: Any) -> Any:
        asked = inputs["messages"][-1]["content"]
        if outputs == "?":
            raise RuntimeError("no key")
        return outputs.endswith(asked) and expectations["expected_response"] in outputs if outputs else "maybe"


def test_mlflows_scorers_get_the_request_the_answer_and_what_is_expected() -> None:
    scorer = make_scorer("mlflow", {"scorer": "tests.cases.test_scorers:Polite"})
    one = case(0, "please")
    assert scorer.is_judge
    assert scorer.score(one, f"please {one.messages[-1].content}").reward == 1.0
    assert scorer.score(one, one.messages[-1].content).reward == 0.0
    with pytest.raises(PolicyError, match="no key"):
        scorer.score(one, "?")
    with pytest.raises(PolicyError, match="no pass and no fail, it gave 'maybe'"):
        scorer.score(one, "")


def test_a_scorer_made_with_mlflow_itself() -> None:
    scorer = make_scorer("mlflow", {"scorer": "tests.cases.mlflow_scorer:short", "is_judge": False})
    assert [scorer.score(case(0), text).reward for text in ("brief", "long " * 20)] == [1.0, 0.0]
    assert scorer.score(case(0), "long " * 20).feedback == "100 characters"


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@unhurried
@given(st.dictionaries(st.text(), VALUES, max_size=3), st.text(alphabet=st.characters(exclude_characters="{}[]`")))
def test_json_is_found_in_any_text_without_brackets(value: dict[str, Any], around: str) -> None:
    answer = f"{around}\n{json.dumps(value)}\n{around}"
    assert make_json_equal({}).score(case(0, json.dumps(value)), answer).reward == 1.0


@unhurried
@given(st.text(alphabet='{}[]",:\\ aname rguments', max_size=200) | st.text())
def test_no_text_breaks_the_reading_of_calls(text: str) -> None:
    for call in calls_in(text):
        assert call.name


@pytest.mark.parametrize("part", ['{"name": ', '{"a":[', "[", '{"name": "x", "arguments": {"a": '])
def test_text_that_never_closes_its_brackets_is_read_no_longer_than_other_text(part: str) -> None:
    attempts = []
    text = part * (MAX_CHARACTERS // len(part))
    with pytest.MonkeyPatch.context() as patch:
        plain = json.JSONDecoder.raw_decode
        patch.setattr(json.JSONDecoder, "raw_decode", lambda *given: (attempts.append(1), plain(*given))[1])
        assert calls_in(text) == []
    assert len(attempts) == MAX_FAILURES


@unhurried
@given(st.text(min_size=1), st.dictionaries(st.text(), VALUES, max_size=3), st.integers(1, 3))
def test_calls_are_read_back(name: str, given_arguments: dict[str, Any], times: int) -> None:
    line = json.dumps({"name": name, "arguments": given_arguments})
    found = calls_in(f"I call\n{line}\n" * times)
    assert [(call.name, json.loads(call.arguments)) for call in found] == [(name, given_arguments)] * times
