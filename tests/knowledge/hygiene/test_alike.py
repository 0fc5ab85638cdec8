"""Near-duplicates by index: what comparing with every item finds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.knowledge.hygiene import alike
from oel_core.knowledge.hygiene.alike import Alike
from oel_core.knowledge.hygiene.shape import near_duplicate

WORDS = ("door", "opens", "with", "key", "lamp", "never", "walk", "into", "water", "'G'", "'H'", "7", "the", "cells")
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=0, max_size=7).map(" ".join), max_size=12)


def by_comparing(texts: list[str], text: str, threshold: float) -> int | None:
    return next((at for at, other in enumerate(texts) if near_duplicate(text, other, threshold)), None)


def index_of(texts: list[str], threshold: float) -> Alike:
    made = Alike(threshold)
    for number, text in enumerate(texts):
        made.add(number, text)
    return made


@given(TEXTS, st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), st.sampled_from((0.5, 0.7, 1.0)))
def test_among_few_items_the_result_is_exact(texts: list[str], text: str, threshold: float) -> None:
    assert index_of(texts, threshold).first(text) == by_comparing(texts, text, threshold)


def sentences(generator: random.Random, count: int) -> list[str]:
    """Plain sentences of 8 to 14 of 400 made-up words, so that all are of one group."""
    words = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstvzptkmn"]
    return [" ".join(generator.choices(words, k=generator.randint(8, 14))) for _ in range(count)]


def altered(generator: random.Random, text: str) -> str:
    """The sentence with a word added or left out, which keeps most word pairs."""
    words = text.split()
    at = generator.randrange(len(words))
    return " ".join([*words[:at], *(["zubur"] if generator.random() < 0.5 else []), *words[at:]][: len(words) + 1])


def test_among_many_items_nearly_all_are_found_and_none_is_invented() -> None:
    generator = random.Random(7)
    texts = sentences(generator, 300)
    index = index_of(texts, 0.7)
    asked = [altered(generator, generator.choice(texts)) for _ in range(120)] + sentences(generator, 20)
    exact = [by_comparing(texts, text, 0.7) for text in asked]
    found = [index.first(text) for text in asked]
    expected = [(one, other) for one, other in zip(exact, found, strict=True) if one is not None]
    assert len(expected) > 80
    assert sum(one == other for one, other in expected) >= 0.98 * len(expected)
    assert all(near_duplicate(text, texts[at], 0.7) for text, at in zip(asked, found, strict=True) if at is not None)


def test_many_items_are_not_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = sentences(random.Random(3), 500)
    index, compared = index_of(texts, 0.7), list[str]()
    monkeypatch.setattr(alike, "near_duplicate", lambda text, other, t: bool(compared.append(other)))
    for text in sentences(random.Random(4), 20):
        index.first(text)
    assert len(compared) < 0.02 * 20 * 500
