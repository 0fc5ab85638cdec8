"""The commands that a Markdown document tells its readers to give, so that they can be run.

    ```sh        every line is a command
    ```console   lines that begin with `$ ` are commands, the others are what they wrote
    ```python    a script

A command that is meant to fail says so at its end (`# exit code 2`). A block that no test can run has the reason in
the line above it: `<!-- not run by the tests of this page: ... -->`. Every other kind of block says what it is too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUNNABLE = ("sh", "console", "python")
REASON = re.compile(r"<!-- not run by the tests[^:]*: (?P<reason>.+) -->")
EXIT_CODE = re.compile(r"\s+# exit code (?P<code>\d+)$")
PROMPT = "$ "


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    path: Path
    line: int
    kind: str
    text: str
    reason: str | None
    """Why no test runs it."""

    @property
    def place(self) -> str:
        return f"{self.path.name}:{self.line}"

    def script(self) -> str:
        """A shell script that stops at the first command that ends otherwise than the document says."""
        lines = ["set -euo pipefail"]
        for command in commands(self):
            said = EXIT_CODE.search(command)
            code = int(said["code"]) if said else 0
            lines.append(f"code=0; {EXIT_CODE.sub('', command)} || code=$?" if code else command)
            if code:
                lines.append(f'test "$code" -eq {code} || {{ echo "exit code $code, not {code}"; exit 1; }}')
        return "\n".join(lines) + "\n"


def blocks(path: Path) -> Iterator[Block]:
    """All fenced blocks of a document, in order."""
    lines = path.read_text().splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        above = REASON.fullmatch(lines[start - 1].strip()) if start else None
        text = "\n".join(lines[start + 1 : number])
        yield Block(path, start + 1, lines[start].removeprefix("```"), text, above["reason"] if above else None)
        start = None
    assert start is None, f"{path}: the block of line {(start or 0) + 1} has no end"


def commands(block: Block) -> list[str]:
    """The shell commands of a block; a line that ends in a backslash goes on in the next one."""
    joined = block.text.replace("\\\n", " ").splitlines()
    if block.kind == "console":
        joined = [line.removeprefix(PROMPT) for line in joined if line.startswith(PROMPT)]
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]
