"""Help, completion and machine-readable output: what every command has."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from flows.cli.app import app
from flows.cli.help import first_sentence
from oel_core import __version__
from oel_core.config.run import load_config
from oel_core.runs.folder import adopt_config, open_run

Oel = Callable[..., tuple[int, str, str]]
ROOT = typer.main.get_command(app)
PRINTS_NO_DATA = {"join", "seed-lm train", "config schema", "new env", "new preset"}
"""Commands that only make something, and say on the way how far they are, or that print JSON anyway."""


def leaves(command: object = ROOT, path: str = "") -> Iterator[tuple[str, object]]:
    """Every command that does something, with its path."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path.strip(), command
        return
    for name, child in below.items():
        yield from leaves(child, f"{path} {name}")


LEAVES = dict(leaves())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    adopt_config(open_run(tmp_path, "lake"), load_config("quickstart"))
    adopt_config(open_run(tmp_path, "lagoon"), load_config("quickstart", ["seed=3"]))
    return tmp_path


@pytest.mark.parametrize("path", LEAVES)
def test_help_says_what_a_command_does_its_arguments_and_an_example(oel: Oel, path: str) -> None:
    code, out, _ = oel(*path.split(), "--help")
    said = " ".join(out.split())
    command = LEAVES[path]
    assert code == 0
    assert first_sentence(command.help) in said  # type: ignore[attr-defined]
    assert all(getattr(one, "help", None) for one in command.params), path  # type: ignore[attr-defined]
    assert f"Example: oel {path}" in said


@pytest.mark.parametrize("path", LEAVES)
def test_the_examples_are_commands_that_can_be_given(path: str) -> None:
    command = LEAVES[path]
    _, *words = shlex.split(command.epilog.removeprefix("Example:"))  # type: ignore[attr-defined]
    assert words[: len(path.split())] == path.split()
    command.make_context(path, words[len(path.split()) :])  # type: ignore[attr-defined]


@pytest.mark.parametrize("columns", ["30", "80", "200"])
def test_the_list_of_commands_is_grouped_and_whole_however_wide(
    oel: Oel, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = oel("--help")
    said = " ".join(out.split())
    assert "..." not in said.replace("[ARGS]...", "")
    for path, command in LEAVES.items():
        if " " not in path:
            assert first_sentence(command.help) in said  # type: ignore[attr-defined]
    for panel in (
        "Train and evaluate:",
        "Inspect runs:",
        "Projects:",
        "Servers and schedules:",
        "Configurations and models:",
    ):
        assert f"\n{panel}\n" in out


def test_the_version_is_printed(oel: Oel) -> None:
    assert oel("--version") == (0, f"oel {__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("oel run tin", ["tiny"]),
        ("oel rounds --root {root} la", ["lagoon", "lake"]),
        ("oel rounds --root {root}/nowhere l", []),
        ("oel eval seed-lm --suite gam", ["games"]),
        ("oel trigger next", ["next-round"]),
        ("oel config diff --root {root} lak", ["lake"]),
    ],
)
def test_a_shell_completes_names(
    oel: Oel, root: Path, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    words = line.format(root=root)
    monkeypatch.setenv("_OEL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    code, out, _ = oel()
    assert (code, out.split()) == (0, expected)


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_that_prints_data_prints_it_for_programs_too(path: str) -> None:
    options = {name for one in LEAVES[path].params for name in one.opts}  # type: ignore[attr-defined]
    assert ("--json" in options) != (path in PRINTS_NO_DATA)


@pytest.mark.parametrize(
    "line",
    [
        "presets",
        "envs",
        "models list",
        "config show tiny",
        "config diff {root}/lake lagoon --root {root}",
        "rounds lake --root {root}",
        "report lake --root {root}",
        "history lake --root {root}",
        "status --root {root}",
        "down --root {root}",
        "run tiny --dry-run --root {root}",
    ],
)
def test_json_is_one_object_a_line_and_nothing_else(oel: Oel, root: Path, line: str) -> None:
    code, out, _ = oel(*line.format(root=root).split(), "--json")
    assert code == 0
    assert all(isinstance(json.loads(row), dict) for row in out.splitlines())
