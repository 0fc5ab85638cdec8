"""The corpus of attacks: each is flagged for its reason, and no harmless text is.

`{-}` in a vector stands for nothing: it keeps scanners of repositories from taking made-up keys for real ones.
"""

import json
from pathlib import Path

import pytest

from oel_core.config.knowledge import HygieneConfig
from oel_core.knowledge.hygiene import inspect

VECTORS = Path(__file__).parents[2] / "vectors"
CONFIG = HygieneConfig(policy="drop")


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (VECTORS / name).read_text(encoding="utf-8").splitlines()]


def text_of(row: dict[str, str]) -> str:
    return row["text"].replace("{-}", "")


@pytest.mark.parametrize("row", rows("attacks.jsonl"), ids=lambda row: row["text"][:40])
def test_an_attack_is_flagged_for_its_reason(row: dict[str, str]) -> None:
    found = inspect(f"- EXPERIENCE ITEM: {text_of(row)}", CONFIG)
    assert row["check"] in {flag.check for flag in found}, found


def test_harmless_items_pass() -> None:
    wrong = {row["text"]: inspect(f"- EXPERIENCE ITEM: {row['text']}", CONFIG) for row in rows("harmless.jsonl")}
    assert {text: flags for text, flags in wrong.items() if flags} == {}


def test_a_reason_never_repeats_the_secret() -> None:
    for row in rows("attacks.jsonl"):
        if row["check"] in ("secret", "personal_data"):
            details = " ".join(flag.detail for flag in inspect(text_of(row), CONFIG))
            assert not {word for word in text_of(row).split() if len(word) > 9 and word in details}
