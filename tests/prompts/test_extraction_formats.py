"""The extraction formats against the reference vectors, and the properties every format must have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.run import ExtractionExample
from oel_core.envs.base import LEARN_RULES
from oel_core.errors import ConfigError
from oel_core.plugins.builtin import FORMATS
from oel_core.prompts.extraction import get_format
from oel_core.prompts.extraction.base import extraction_messages, extraction_system, transcript
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.types import Message, Split, Tool, ToolCall
from tests.builders import episode, turn

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "oel_vectors.json").read_text(encoding="utf-8")
)
HOSTILE = st.lists(
    st.sampled_from(
        [MARKER, f"\n{MARKER}", "\n  ", "</think>", "<think>", " ", "\r\n", "\u2028", "\x00", "- ", "EXPERIENCE"]
    )
    | st.text(max_size=12),
    max_size=12,
).map("".join)


def vector_count(text: str) -> int:
    """The vectors' token: a run of non-space characters, or a line end."""
    return len(re.findall(r"\S+|\n", text))


def word_count(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("case", VECTORS["item_parse"])
def test_itemised_parse_agrees_with_the_reference(case: dict[str, str]) -> None:
    assert "\n".join(get_format("itemised").parse(case["extractor_output"])) == case["items"]


@pytest.mark.parametrize("case", VECTORS["knowledge_truncation"])
def test_truncation_agrees_with_the_reference(case: dict[str, Any]) -> None:
    kept = get_format(case["format"]).truncate(case["knowledge"], case["max_tokens"], vector_count)
    assert kept == case["kept"]


@given(HOSTILE)
def test_itemised_items_are_single_marked_lines_that_parse_to_themselves(output: str) -> None:
    items = get_format("itemised").parse(output)
    for item in items:
        assert item.startswith(f"{MARKER} ")
        assert len(item) > len(f"{MARKER} ")
        assert item.count(MARKER) == 1
        assert item.splitlines() == [item]
    assert get_format("itemised").parse("\n".join(items)) == items


@given(HOSTILE.filter(lambda text: "</think>" not in text))
def test_itemised_reads_nothing_from_the_thinking(thoughts: str) -> None:
    parsed = get_format("itemised").parse(f"<think>{thoughts}\n{MARKER} secret</think>\n{MARKER} said")
    assert parsed == [f"{MARKER} said"]


@given(HOSTILE)
def test_free_text_is_one_stripped_item_without_thinking(output: str) -> None:
    items = get_format("free_text").parse(output)
    assert len(items) <= 1
    for item in items:
        assert item == item.strip() != ""
        assert get_format("free_text").parse(item) == [item]


def test_free_text_keeps_everything_after_the_thinking() -> None:
    assert get_format("free_text").parse("<think>a</think>\n one \n two \n") == ["one \n two"]
    assert get_format("free_text").parse("<think>all of it </think>  ") == []
    assert get_format("free_text").parse("<think></think><think>") == []
    assert get_format("free_text").parse("<think>a</think><think>b</think>c") == ["c"]


@pytest.mark.parametrize("before", ["", "<think>hm</think>\n"])
def test_a_quoted_end_of_thinking_deletes_nothing(before: str) -> None:
    items = [f"{MARKER} one", f"{MARKER} never write </think> twice", f"{MARKER} three"]
    assert get_format("itemised").parse(before + "\n".join(items)) == items
    assert get_format("free_text").parse(before + "\n".join(items)) == ["\n".join(items)]


@pytest.mark.parametrize("name", FORMATS.builtin)
def test_thinking_that_never_ended_says_nothing(name: str) -> None:
    assert get_format(name).parse(f"<think>\n{MARKER} a draft\n{MARKER} and") == []


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        (f"{MARKER} one\n{MARKER} tw", [f"{MARKER} one"]),
        (f"{MARKER} one\n{MARKER} two\n", [f"{MARKER} one", f"{MARKER} two"]),
        (f"{MARKER} one {MARKER} two {MARKER} th", [f"{MARKER} one", f"{MARKER} two"]),
        (f"{MARKER} one\n- EXPERIEN", [f"{MARKER} one"]),
        (f"{MARKER} o", []),
        ("", []),
    ],
)
def test_an_item_that_the_token_cap_cut_is_left_out(output: str, kept: list[str]) -> None:
    form = get_format("itemised")
    assert form.parse(form.finished(output)) == kept


@pytest.mark.parametrize(("output", "kept"), [("one\ntwo\nth", ["one\ntwo"]), ("on", []), ("one\n", ["one"])])
def test_a_line_of_free_text_that_the_token_cap_cut_is_left_out(output: str, kept: list[str]) -> None:
    form = get_format("free_text")
    assert form.parse(form.finished(output)) == kept


@pytest.mark.parametrize("name", FORMATS.builtin)
@given(text=HOSTILE, cap=st.integers(0, 30))
def test_truncation_keeps_a_fitting_end_of_the_text(name: str, text: str, cap: int) -> None:
    kept = get_format(name).truncate(text, cap, word_count)
    assert word_count(kept) <= cap
    assert text.rstrip().endswith(kept)
    assert get_format(name).truncate(kept, cap, word_count) == kept


@given(st.lists(st.text("ab ", min_size=1).filter(str.strip), max_size=8), st.integers(0, 40))
def test_itemised_truncation_keeps_the_most_newest_whole_items(texts: list[str], cap: int) -> None:
    items = [f"{MARKER} {text.strip()}" for text in texts]
    kept = get_format("itemised").truncate("\n".join(items), cap, word_count)
    newest = kept.split("\n") if kept else []
    assert newest == items[len(items) - len(newest) :]
    if len(newest) < len(items):
        assert word_count("\n".join(items[len(items) - len(newest) - 1 :])) > cap


def test_multi_line_items_stay_whole() -> None:
    text = f"{MARKER} one\n  more of one\n{MARKER} two\n  more of two"
    assert get_format("itemised").truncate(text, 8, word_count) == f"{MARKER} two\n  more of two"
    assert get_format("itemised").truncate(text, 6, word_count) == ""
    assert get_format("free_text").truncate(text, 6, word_count) == "more of two"


def test_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="itemised, free_text"):
        get_format("yaml")


def test_transcript_shows_each_turn_and_the_end() -> None:
    played = episode("e", answers=("go [up]", "go [left]"))
    assert transcript(played, None) == (
        "## Turn 1\nboard 0\nAnswer: go [up]\n## Turn 2\nboard 1\nAnswer: go [left]\n## End\nboard 2"
    )


def test_transcript_of_the_last_turns_keeps_their_numbers() -> None:
    played = episode("e", answers=("one", "two", "three"))
    assert transcript(played, 1).startswith("## Turn 3\nboard 2\nAnswer: three\n")
    assert transcript(played, 9) == transcript(played, None)
    assert transcript(episode("e", answers=()), None) == ""


def test_a_turn_with_history_shows_what_was_seen_last() -> None:
    messages = [("system", "Act."), ("user", "board 0"), ("assistant", "up"), ("user", "board 1")]
    played = turn(1).model_copy(update={"messages": tuple(Message(role=role, content=text) for role, text in messages)})
    assert transcript(episode("e", turns=[played]), None).startswith("## Turn 1\nboard 1\nAnswer: ")


def test_a_recorded_conversation_is_shown_with_its_instructions_functions_and_every_new_message() -> None:
    close = Tool(name="end_order", description="Ends an order.", parameters='{"type": "object"}')
    call = ToolCall(id="c1", name="end_order", arguments='{"order": "A243"}')
    first = (
        Message(role="developer", content="You help in a shop.", tools=(close,)),
        Message(role="user", content="Close A243."),
    )
    second = (
        *first,
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="error: now is required", tool_call_id="c1"),
        Message(role="user", content="Do it now!"),
    )
    turns = [
        turn(0).model_copy(update={"messages": first, "response": "call 1"}),
        turn(1).model_copy(update={"messages": second, "response": "call 2", "observation": "closed"}),
    ]
    played = episode("e", turns=turns).model_copy(update={"intro": ""})
    setting = '## Instructions\nYou help in a shop.\nFunction end_order: Ends an order. {"type": "object"}\n'
    last = "## Turn 2\nTool: error: now is required\nUser: Do it now!\nAnswer: call 2\n## End\nclosed"
    assert transcript(played, None) == f"{setting}## Turn 1\nUser: Close A243.\nAnswer: call 1\n{last}"
    assert transcript(played, 1) == setting + last
    edited = turns[1].model_copy(update={"messages": (second[0], Message(role="user", content="Other."), *second[2:])})
    shown = transcript(played.model_copy(update={"turns": (turns[0], edited)}), 1)
    assert 'User: Other.\nAssistant: end_order {"order": "A243"}\nTool: error' in shown


@pytest.mark.parametrize("name", FORMATS.builtin)
def test_the_extractor_reads_previous_knowledge_before_the_episode(name: str) -> None:
    form = get_format(name)
    played = episode("e", split=Split.EXTRACT, feedback="You lost.")
    system, user = extraction_messages(form, "Study it.", played, "- old wisdom", None)
    assert (system.role, system.content) == ("system", f"Study it. {form.instructions}")
    assert user.content.startswith("Knowledge so far:\n- old wisdom\n\nEpisode:\n## Turn 1")
    assert user.content.endswith("Feedback: You lost.")


@pytest.mark.parametrize(
    ("name", "system"),
    [
        (
            "itemised",
            "You study one finished episode of a world whose rules nobody has told you. Work out from what happened "
            "what is worth knowing in other episodes: what things do, what to aim for, what to avoid. Write only what "
            "is new and would help. Each item is one line that starts with '- EXPERIENCE ITEM:'.",
        ),
        (
            "free_text",
            "You study one finished episode of a world whose rules nobody has told you. Work out from what happened "
            "what is worth knowing in other episodes: what things do, what to aim for, what to avoid. Write it down "
            "briefly and plainly, without retelling the episode.",
        ),
    ],
)
def test_the_system_message_about_hidden_rules_keeps_its_bytes(name: str, system: str) -> None:
    # The seed model was trained on these bytes, each of which is one token to it.
    assert extraction_system(LEARN_RULES, get_format(name)) == system


def test_no_previous_knowledge_is_not_the_same_as_empty_knowledge() -> None:
    form, played = get_format("itemised"), episode("e")
    assert "Knowledge so far" not in extraction_messages(form, "Study it.", played, None, None)[1].content
    assert extraction_messages(form, "Study it.", played, "", None)[1].content.startswith("Knowledge so far:\n(none)\n")


def test_examples_stand_as_turns_before_the_episode() -> None:
    played = episode("e", answers=("one",))
    form = get_format("itemised")
    plain = extraction_messages(form, "Study it.", played, None, None)
    examples = (ExtractionExample(episode="Episode:\nother", answer="- EXPERIENCE ITEM: yes"),)
    shown = extraction_messages(form, "Study it.", played, None, None, examples)
    assert (shown[0], shown[-1]) == plain
    assert [(message.role, message.content) for message in shown[1:-1]] == [
        ("user", "Episode:\nother"),
        ("assistant", "- EXPERIENCE ITEM: yes"),
    ]
