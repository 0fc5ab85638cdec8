"""The paths that CONTRIBUTING.md and docs/architecture.md send a reader to exist."""

import re
from pathlib import Path

import pytest

from tests.test_arrows import ROOMS

ROOT = Path(__file__).parent.parent
PATH = re.compile(r"`((?:oel_core|tasks|flows|tests|docs|examples|tools)/[\w./-]+)`")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_exist(page: str) -> None:
    named = PATH.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(named) >= 3
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = page[page.index("## Rooms") : page.index("## One round")]
    assert [room for room in ROOMS if not re.search(rf"\b{room}\b", shown)] == []
