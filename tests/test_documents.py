"""Reading commands out of documents, and that every block of the documents that are run says what it is."""

import re
import subprocess
from pathlib import Path

import pytest

from flows.cli.app import app
from tests.documents import RUNNABLE, Block, blocks, commands

ROOT = Path(__file__).parent.parent
TESTED = ("README.md", "docs/operations.md")
OTHERS = ("yaml", "text", "diff", "json")


def block(kind: str, text: str) -> Block:
    return Block(Path("x.md"), 1, kind, text, None)


def test_blocks_are_found_with_kind_place_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text(
        "a\n```sh\nls\n```\n<!-- not run by the tests: it needs a moon -->\n```sh\nfly\n```\n```text\n```\n"
    )
    found = list(blocks(path))
    assert [(one.line, one.kind, one.text, one.reason) for one in found] == [
        (2, "sh", "ls", None),
        (6, "sh", "fly", "it needs a moon"),
        (9, "text", "", None),
    ]
    assert found[0].place == "x.md:2"


def test_commands_are_lines_or_what_follows_a_prompt() -> None:
    assert commands(block("sh", "a  # why\n\n# only words\nb \\\n  c")) == ["a  # why", "b    c"]
    assert commands(block("console", "$ a \\\n    b\nsaid\n$ c   # exit code 2")) == ["a      b", "c   # exit code 2"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("true", 0),
        ("false", 1),
        ("false\ntrue", 1),
        ("true | false", 1),
        ("false   # exit code 1", 0),
        ("true   # exit code 1", 1),
        ("(exit 3)   # exit code 2", 1),
        ("(exit 2)   # exit code 2\ntrue", 0),
    ],
)
def test_a_script_fails_unless_every_command_ends_as_it_says(text: str, code: int) -> None:
    done = subprocess.run(["bash", "-c", block("sh", text).script()], capture_output=True, check=False)
    assert done.returncode == code


@pytest.mark.parametrize("name", TESTED)
def test_every_block_says_what_it_is_and_most_are_run(name: str) -> None:
    found = list(blocks(ROOT / name))
    assert {one.kind for one in found} <= {*RUNNABLE, *OTHERS}, [one.place for one in found if not one.kind]
    to_run = [one for one in found if one.kind in RUNNABLE]
    left_out = [one.place for one in to_run if one.reason]
    assert len(left_out) <= 5, left_out
    assert len(to_run) - len(left_out) >= 2


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def links(path: Path) -> list[str]:
    """Where a document's links and pictures lead, those to the web left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    return [target.partition("#")[0] for target in found if "://" not in target and not target.startswith("#")]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert [target for target in links(path) if not (path.parent / target).exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages - set(links(ROOT / "README.md")) == set()


def test_every_command_is_in_the_documents() -> None:
    text = "\n".join(path.read_text() for path in documents())
    names = [str(one.name) for one in (*app.registered_commands, *app.registered_groups)]
    assert len(names) > 20
    assert [name for name in names if not re.search(rf"\boel {name}\b", text)] == []
