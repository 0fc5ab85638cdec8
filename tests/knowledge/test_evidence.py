"""Evidence: items with quotations that their episode does not contain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.run import ExtractConfig
from oel_core.knowledge.evidence import missing_quotes, quotes
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.types import Message, ToolCall
from tests.builders import episode, turn
from tests.knowledge.test_extraction import Extractor, Killed, read

PLAYED = episode(
    "e0", answers=("shop  order\nend A7",), feedback="Failure. The right command was: shop orders end A7 --now"
)
TRUE = f"{MARKER} 'board 0' is done with: shop orders end A7 --now"
FALSE = f"{MARKER} 'board 0' is done with: shop orders close A7"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("'Close A7.' is done with: shop end A7.", ["Close A7", "shop end A7"]),
        ("'Close A7.' is done with: `shop  end A7`", ["Close A7", "shop end A7"]),
        ("'A' is done with: shop note --text 'call back'", ["A", "shop note --text 'call back'"]),
        ('use `go up` where "H  is" near', ["go up", "H is"]),
        ("\u201cH\u201d is a hole", ["H"]),
        ("don't trust the players' words, it's theirs", []),
        ("go right", []),
        ("'...' and '!'", []),
        ("'H' and 'H'", ["H"]),
    ],
)
def test_quotes(text, found):
    assert quotes(text) == found


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (TRUE, []),
        (FALSE, ["shop orders close A7"]),
        ("`shop order end A7`", []),  # white space aside
        ("'Shop order'", ["Shop order"]),
        ("'board 1' and 'board 2'", ["board 2"]),  # the last observation counts, and there is no other
        ("no quote", []),
    ],
)
def test_evidence_is_in_observations_responses_and_feedback(text, missing):
    assert missing_quotes(text, PLAYED) == missing


def test_every_message_of_a_recorded_conversation_is_evidence():
    call = ToolCall(name="end_order", arguments='{"order": "A243"}')
    messages = (
        Message(role="system", content="Prices are in cents."),
        Message(role="user", content="Close A243."),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="error: now is required"),
        Message(role="user", content="Do it now!"),
    )
    played = episode("e", turns=[turn(1).model_copy(update={"messages": messages})])
    recorded = played.model_copy(update={"intro": ""})
    text = '`Prices are in cents`, `now is required` and `"order": "A243"`'
    assert missing_quotes(text, recorded) == []
    assert missing_quotes(text, played) == quotes(text)


QUOTABLE = st.text(st.characters(exclude_characters="`\"'\u201c\u201d", exclude_categories=["C", "Z"]), min_size=1)


@given(words=st.lists(QUOTABLE, min_size=1, max_size=5), gap=st.sampled_from([" ", "  ", "\n", "\t "]))
def test_what_was_said_is_never_missing(words, gap):
    said = episode("e", answers=(f"I say {gap.join(words)} now",))
    assert missing_quotes(f"- `{' '.join(words)}` helps", said) == []


@given(st.text())
def test_any_text_can_be_looked_through(text):
    assert all(quote == " ".join(quote.split()) for quote in quotes(text))
    assert set(missing_quotes(text, PLAYED)) <= set(quotes(text))


def answer(request):
    return f"{TRUE}\n{FALSE}\n{MARKER} no quote"


def test_items_without_evidence_are_left_out_and_kept_with_the_reason():
    dropping, off = (read(Extractor(answer), [PLAYED], config=ExtractConfig(evidence=e)) for e in ("drop", "off"))
    assert [item.text for item in dropping.items] == [TRUE, f"{MARKER} no quote"]
    (row,) = dropping.raw
    assert [(item.text, item.missing) for item in row.rejected] == [(FALSE, ("shop orders close A7",))]
    assert (row.items, dropping.rejected) == (2, 1)
    assert FALSE in row.output
    assert [item.text for item in off.items] == [TRUE, FALSE, f"{MARKER} no quote"]
    assert "rejected" not in off.raw[0].model_dump()


def test_an_answer_of_which_nothing_is_left_is_empty():
    result = read(Extractor(lambda request: FALSE), [PLAYED], config=ExtractConfig(evidence="drop"))
    assert (result.empty_outputs, result.items, result.final.text) == (1, (), "")


def test_a_killed_extraction_rejects_the_same_items():
    played = [PLAYED, PLAYED.model_copy(update={"id": "e1", "feedback": ""})]
    config, rows = ExtractConfig(evidence="drop"), []

    def kill(replica, row):
        rows.append(row)
        raise Killed

    whole = read(Extractor(answer), played, config=config)
    with pytest.raises(Killed):
        read(Extractor(answer), played, config=config, on_row=kill)
    assert read(Extractor(answer), played, config=config, done=rows) == whole
    assert [len(row.rejected) for row in whole.raw] == [1, 2]
