"""The commands of docs/deployment.md print what it says that they print."""

import shlex
from pathlib import Path

import pytest

from flows.cli.app import call
from tests.documents import PROMPT, blocks

ROOT = Path(__file__).parents[2]


def test_the_commands_print_what_the_document_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    consoles = [block.text for block in blocks(ROOT / "docs" / "deployment.md") if block.kind == "console"]
    assert len(consoles) == 4
    for text in consoles:
        command, _, said = text.removeprefix(PROMPT).partition("\n")
        assert call(shlex.split(command)[1:]) == 0
        assert capfd.readouterr().out.rstrip() == said.rstrip()
