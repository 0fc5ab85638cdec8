"""Limits on the length of functions and the number of files per folder."""

import ast
from collections.abc import Iterator

import pytest

from tests.test_arrows import ROOT, SOURCES

MAX_LINES = 40
"""Of one function: from `def` to its end, nested functions included, its docstring not."""
MAX_FILES = 14
"""In one folder, `__init__.py` not counted."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def lines(node: ast.stmt) -> int:
    """Lines of a statement; decorators are not part of it."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def length(function: Function) -> int:
    """Lines of a function without its docstring."""
    documented = ast.get_docstring(function) is not None
    return lines(function) - (lines(function.body[0]) if documented else 0)


def test_functions_fit_a_screen() -> None:
    found = [
        (f"{path.relative_to(ROOT).as_posix()}:{function.lineno}: {function.name}", length(function))
        for path in SOURCES
        for function in functions(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 1000
    assert [entry for entry in found if entry[1] > MAX_LINES] == []


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        ("def f():\n    return 1\n", [2]),
        ("@cache\ndef f(\n    x,\n):\n    return x\n", [4]),
        ('def f():\n    """One.\n\n    Two."""\n    return 1\n', [2]),
        ("async def f():\n    def g():\n        pass\n\n    g()\n", [5, 2]),
        ("class A:\n    def f(self):\n        pass\n", [2]),
    ],
)
def test_lines_are_counted_without_docstrings(source: str, sizes: list[int]) -> None:
    assert [length(function) for function in functions(source)] == sizes


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in SOURCES}
    counts = {folder: len([path for path in folder.glob("*.py") if path.stem != "__init__"]) for folder in folders}
    assert {folder.relative_to(ROOT).as_posix(): n for folder, n in counts.items() if n > MAX_FILES} == {}
