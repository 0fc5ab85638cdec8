"""Options and output that several commands share."""

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from flows.cli import complete
from flows.cli.roots import any_root, local_root
from oel_core.text.visible import visible, visible_json


class PlainConsole(Console):
    """A console for untrusted text: no markup, control characters escaped."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


out = PlainConsole(width=None if sys.stdout.isatty() else 120)
err = PlainConsole(stderr=True)

Root = Annotated[
    Path,
    typer.Option("--root", help="Folder that holds the runs.", is_eager=True, parser=local_root, metavar="PATH"),
]
StoredRoot = Annotated[
    Path,
    typer.Option(
        "--root",
        help="Folder that holds the runs, or a folder of an object store, like s3://bucket/runs.",
        is_eager=True,
        parser=any_root,
        metavar="PATH|URL",
    ),
]
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Name of a run under --root, or its path.", autocompletion=complete.run_names),
]
PRESET_HELP = "Preset name or YAML file."
PresetName = Annotated[str, typer.Argument(help=PRESET_HELP, autocompletion=complete.presets)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, like distill.steps=5.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")]
RUNS = Path("runs")


class VisibleRecord(logging.LogRecord):
    """A log record with control characters escaped."""

    def getMessage(self) -> str:
        return visible(super().getMessage())


def echo(text: str) -> None:
    """Prints untrusted text to stdout without wrapping."""
    sys.stdout.write(visible(text) + "\n")


def print_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object a line on the standard output."""
    for row in rows:
        sys.stdout.write(visible_json(json.dumps(row, ensure_ascii=False, allow_nan=False)) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with text columns; the first is the row's name."""
    table = Table(title=Text(title) if title else None, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: brackets in it are no markup
    out.print(table)
