"""Untrusted text has no effect on a terminal, a Markdown page, JSON or a file."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from oel_core.text.markdown import escaped
from oel_core.text.visible import KEPT, visible, visible_json, visible_line, well_formed

ANY = st.text(st.characters(), max_size=60)
MARKUP = [
    "\x1b[2J\x1b]0;pwned\x07",
    "\u202egnp.exe",
    "# not a heading",
    "- no item",
    "+ no item",
    "12. no item",
    "<script>alert(1)</script>",
    "[text](javascript:alert(1))",
    "![x](http://evil/x.png)",
    "https://evil.example/",
    "www.evil.example",
    "`code` *strong* _em_ ~~gone~~",
    "a | b\n--|--\n1 | 2",
    "&lt;&#x41;",
    "```\nfence",
    "===",
    "line one\nline two",
    "back\\slash",
]


def hidden(text: str) -> list[str]:
    return [each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_nothing_hidden_is_shown_and_nothing_is_escaped_twice(text: str) -> None:
    assert set(hidden(visible(text))) <= set(KEPT)
    assert hidden(visible_line(text)) == []
    assert visible(visible(text)) == visible(text)


def test_what_can_be_seen_stays() -> None:
    assert visible("Grüße, 日本 → 🙂\n\tok") == "Grüße, 日本 → 🙂\n\tok"
    assert visible("\x1b[31mX\u202e") == "⟨U+001B⟩[31mX⟨U+202E⟩"
    assert visible_line("a\nb\tc", 3) == "a⟨U+000A⟩b..."


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(ANY, ANY, max_size=3))
def test_json_says_the_same_with_everything_to_be_seen(values: dict[str, str]) -> None:
    shown = visible_json(json.dumps(values, ensure_ascii=False))
    assert hidden(shown) == []
    assert json.loads(shown) == values


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters() | st.characters(categories=["Cs"]), max_size=20))
def test_every_text_can_be_written_and_a_good_one_is_not_changed(text: str) -> None:
    well_formed(text).encode()
    if not any(unicodedata.category(each) == "Cs" for each in text):
        assert well_formed(text) == text


def test_half_pairs_are_replaced_and_whole_ones_join() -> None:
    assert well_formed("a\ud800b") == "a\ufffdb"
    assert well_formed("\udc00") == "\ufffd"
    assert well_formed("\ud83d\ude42") == "🙂"


def plain(source: str) -> tuple[str, list[str]]:
    """The text of a page as a reader sees it, and the kinds of its parts."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(source)
    inner = [child for token in tokens for child in token.children or ()]
    kinds = [token.type for token in tokens] + [child.type for child in inner if child.type not in ("text",)]
    return "".join(child.content for child in inner), [kind for kind in kinds if kind != "text_special"]


@pytest.mark.parametrize("text", MARKUP)
def test_text_is_no_structure_of_a_page(text: str) -> None:
    shown, kinds = plain(escaped(text))
    assert kinds == ["paragraph_open", "inline", "paragraph_close"]
    assert shown == visible_line(text)
    assert "http://" not in escaped(text)
    assert "https://" not in escaped(text)


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("\\`*_[]()<>#|~&!@$:/.+-=1a \n") | st.characters(), min_size=1, max_size=30))
def test_no_text_at_all_is_structure_of_a_page(text: str) -> None:
    shown, kinds = plain(f"before {escaped(text)} after")
    assert kinds == ["paragraph_open", "inline", "paragraph_close"]
    assert visible_line(text.strip()) in shown
