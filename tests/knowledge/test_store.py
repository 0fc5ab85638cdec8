"""The knowledge store: merging under a cap, and the pair of files."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.errors import ArtifactError
from oel_core.knowledge.store import diff, empty, load_knowledge, merge, paths, render, write_knowledge
from oel_core.plugins.builtin import FORMATS
from oel_core.prompts.extraction import get_format
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.runs.manifest import digest_bytes
from oel_core.types import ExperienceItem, Knowledge
from tests.builders import item, knowledge_of

ITEMISED = get_format("itemised")


def count(text: str) -> int:
    return len(text.split())


def char_count(text: str) -> int:
    return len(text)


def grow(knowledge: Knowledge, *texts: str, cap: int = 1000, form: str = "itemised", source: str = "e0") -> Knowledge:
    items = [item(text, source, format=form) for text in texts]
    return merge(knowledge, items, max_tokens=cap, form=get_format(form), count_tokens=count)


def marked(*texts: str) -> list[str]:
    return [f"{MARKER} {text}" for text in texts]


LINE = st.text(max_size=20).map(lambda text: " ".join(text.split())).filter(bool)
ITEM_TEXT = st.lists(LINE, min_size=1, max_size=3).map(lambda lines: f"{MARKER} " + "\n  ".join(lines))
HOSTILE = st.text(max_size=30) | st.sampled_from([MARKER, "\n", "\r\n\u2028", "</think>", "\x00", "a\n\n b", "\ufeff"])


@given(st.lists(st.lists(ITEM_TEXT, max_size=4), max_size=6), st.integers(1, 40))
def test_itemised_knowledge_is_the_newest_whole_items_under_the_cap(batches: list[list[str]], cap: int) -> None:
    knowledge, given_texts = empty(3, 1), []
    for number, batch in enumerate(batches):
        knowledge = grow(knowledge, *batch, cap=cap, source=f"e{number}")
        given_texts += batch
        assert count(knowledge.text) == knowledge.tokens <= cap
        assert knowledge.text == render(knowledge.items)
        kept = [entry.text for entry in knowledge.items]
        assert set(kept) <= set(given_texts)
        if given_texts and count(given_texts[-1]) <= cap and given_texts.count(given_texts[-1]) == 1:
            assert kept[-1] == given_texts[-1]
    assert knowledge.replica == 3


@pytest.mark.parametrize("form", FORMATS.builtin)
@given(batches=st.lists(st.lists(HOSTILE, max_size=4), max_size=6), cap=st.integers(1, 60))
def test_whatever_is_merged_text_items_and_cap_agree(form: str, batches: list[list[str]], cap: int) -> None:
    knowledge = empty(0, 1)
    for batch in batches:
        items = [item(text, format=form) for text in batch]
        knowledge = merge(knowledge, items, max_tokens=cap, form=get_format(form), count_tokens=char_count)
        assert knowledge.text == render(knowledge.items)
        assert len(knowledge.text) == knowledge.tokens <= cap
        assert all(entry.text.strip() == entry.text != "" for entry in knowledge.items)


@pytest.mark.parametrize("form", FORMATS.builtin)
@given(texts=st.lists(LINE, min_size=1, max_size=8), cap=st.integers(1, 30))
def test_the_cut_is_the_formats_own(form: str, texts: list[str], cap: int) -> None:
    unique = list(dict.fromkeys(marked(*texts)))
    fitting = [text for text in unique if count(text) <= cap]
    knowledge = grow(empty(0, 1), *fitting, cap=cap, form=form)
    assert knowledge.text == get_format(form).truncate("\n".join(fitting), cap, count)


@given(st.lists(ITEM_TEXT, max_size=6))
def test_merging_the_same_items_again_changes_only_the_count(texts: list[str]) -> None:
    once = grow(empty(0, 1), *texts)
    twice = grow(once, *texts)
    assert twice == once.model_copy(update={"dropped_duplicates": once.dropped_duplicates + len(texts)})


@given(st.lists(ITEM_TEXT, max_size=6, unique=True), st.lists(ITEM_TEXT, max_size=6, unique=True))
def test_order_is_first_sight(first: list[str], second: list[str]) -> None:
    knowledge = grow(grow(empty(0, 1), *first), *second)
    assert [entry.text for entry in knowledge.items] == list(dict.fromkeys([*first, *second]))


def test_a_duplicate_gives_its_sources_to_the_item_that_stays() -> None:
    knowledge = grow(empty(0, 1), *marked("a  b", "c"), source="e1")
    knowledge = grow(knowledge, *marked("a b", " c "), source="e2")
    knowledge = grow(knowledge, *marked("a b"), source="e2")
    assert [(entry.text, entry.sources) for entry in knowledge.items] == [
        (f"{MARKER} a  b", ("e1", "e2")),
        (f"{MARKER} c", ("e1", "e2")),
    ]
    assert knowledge.dropped_duplicates == 3


def test_the_oldest_go_first_and_are_counted() -> None:
    knowledge = grow(empty(0, 1), *marked("a", "b", "c"), cap=12)
    knowledge = grow(knowledge, *marked("d", "e"), cap=12)
    assert knowledge.text == "\n".join(marked("c", "d", "e"))
    assert knowledge.dropped_over_cap == 2


def test_an_item_that_can_never_fit_does_not_take_the_rest_with_it() -> None:
    knowledge = grow(empty(0, 1), *marked("a"), cap=8)
    knowledge = grow(knowledge, *marked("far too many words for a cap of eight"), *marked("b"), cap=8)
    assert knowledge.text == "\n".join(marked("a", "b"))
    assert knowledge.dropped_over_cap == 1


def test_free_text_may_lose_the_oldest_lines_of_an_item() -> None:
    knowledge = grow(empty(0, 1), "one one\ntwo two", "three", cap=3, form="free_text")
    assert [entry.text for entry in knowledge.items] == ["two two", "three"]
    assert knowledge.text == "two two\nthree"
    assert knowledge.dropped_over_cap == 0


def test_a_cut_item_that_now_equals_another_is_not_lost_later() -> None:
    knowledge = grow(empty(0, 1), "old words\nsame", "same", cap=2, form="free_text")
    assert [entry.text for entry in knowledge.items] == ["same", "same"]
    assert grow(knowledge, "same", cap=2, form="free_text").text == "same\nsame"


def test_a_validation_score_belongs_to_one_text() -> None:
    scored = grow(empty(0, 1), *marked("a")).model_copy(update={"validation_score": 0.5})
    assert grow(scored, *marked("a")).validation_score == 0.5
    assert grow(scored, *marked("b")).validation_score is None


def test_diff_names_what_came_went_and_stayed() -> None:
    old = knowledge_of(item("- a"), item("- b"))
    new = knowledge_of(item("-  b", "e9"), item("- c"))
    found = diff(old, new)
    assert [entry.text for entry in found.new] == ["- c"]
    assert [entry.text for entry in found.dropped] == ["- a"]
    assert [(entry.text, entry.sources) for entry in found.kept] == [("-  b", ("e9",))]


@given(st.lists(st.builds(item, HOSTILE, st.text(max_size=5)), max_size=4), st.none() | st.floats(0, 1))
def test_knowledge_survives_the_disk(
    tmp_path_factory: pytest.TempPathFactory, items: list[ExperienceItem], score: float | None
) -> None:
    folder = tmp_path_factory.mktemp("knowledge")
    knowledge = knowledge_of(*items, replica=7).model_copy(update={"validation_score": score, "dropped_over_cap": 2})
    write_knowledge(folder, 7, knowledge)
    assert load_knowledge(folder, 7) == knowledge
    assert (folder / "knowledge_07.md").read_bytes() == knowledge.text.encode()


def test_the_text_file_is_what_a_model_reads_and_the_sidecar_the_rest(tmp_path: Path) -> None:
    write_knowledge(tmp_path, 0, grow(empty(0, 2), *marked("a"), source="r02-extract-k00-e0001"))
    assert (tmp_path / "knowledge_00.md").read_text() == f"{MARKER} a"
    sidecar = json.loads((tmp_path / "knowledge_00.json").read_text())
    assert sidecar["schema_version"] == 1
    assert sidecar["digest"] == digest_bytes(f"{MARKER} a".encode())
    assert sidecar["items"][0]["sources"] == ["r02-extract-k00-e0001"]
    assert "text" not in sidecar


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_knowledge(tmp_path, 0, grow(empty(0, 1), *marked("one", "two")))
    return tmp_path


def test_an_edited_text_is_noticed(written: Path) -> None:
    text, _ = paths(written, 0)
    text.write_bytes(text.read_bytes() + b"\n")
    with pytest.raises(ArtifactError, match=r"knowledge_00\.md is not the text that knowledge_00\.json describes"):
        load_knowledge(written, 0)


@pytest.mark.parametrize("missing", ["knowledge_00.md", "knowledge_00.json"])
def test_a_missing_file_is_named(written: Path, missing: str) -> None:
    (written / missing).unlink()
    with pytest.raises(ArtifactError, match=f"{missing} is missing"):
        load_knowledge(written, 0)


def test_over_the_cap_is_refused_with_both_numbers(written: Path) -> None:
    assert load_knowledge(written, 0, max_tokens=8).tokens == 8
    with pytest.raises(ArtifactError, match=r"knowledge_00\.md has 8 tokens, over knowledge\.max_tokens = 7"):
        load_knowledge(written, 0, max_tokens=7)
    with pytest.raises(ArtifactError, match="has 45 tokens"):
        load_knowledge(written, 0, max_tokens=8, count_tokens=char_count)


def test_items_that_do_not_make_up_the_text_are_noticed(written: Path) -> None:
    _, sidecar = paths(written, 0)
    values = json.loads(sidecar.read_text())
    values["items"].reverse()
    sidecar.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="items do not make up"):
        load_knowledge(written, 0)


def test_another_replicas_files_are_noticed(written: Path) -> None:
    for old, new in zip(paths(written, 0), paths(written, 1), strict=True):
        old.rename(new)
    with pytest.raises(ArtifactError, match="belongs to replica 0, not 1"):
        load_knowledge(written, 1)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", r": the file: "),
        (b"{", r": the file: "),
        (b"[]", r": the file: "),
        (b'{"digest": 3}', ": digest: "),
        (b'{"schema_version": 2}', ": schema_version: "),
        (b"\xff\xfe", " is not UTF-8 text"),
    ],
)
def test_a_broken_sidecar_is_named(written: Path, data: bytes, field: str) -> None:
    _, sidecar = paths(written, 0)
    sidecar.write_bytes(data)
    with pytest.raises(ArtifactError, match=rf"knowledge_00\.json{field}"):
        load_knowledge(written, 0)
