"""Layout of `oel --help`: commands under headings, each with its whole first sentence at any width."""

import re
from typing import Any

from typer import Context
from typer.core import TyperGroup

OTHERS = "Commands"


class GroupedCommands(TyperGroup):
    """Lists commands under their `rich_help_panel`. Without Rich, Typer would truncate sentences and omit panels."""

    def format_commands(self, ctx: Context, formatter: Any) -> None:  # type: ignore[override]
        """Writes a section for each panel, in the order of registration."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                rows = panels.setdefault(panel if isinstance(panel, str) else OTHERS, [])
                rows.append((name, first_sentence(command.help or "")))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


def first_sentence(text: str) -> str:
    """Up to the first full stop that is followed by a space or the end, as one line."""
    line = " ".join(text.split("\n\n", 1)[0].split())
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", line, maxsplit=1)[0]


def example(command: str) -> str:
    """The epilogue of a command's help."""
    return f"Example:  {command}"
