"""Untrusted code returns values or an error, and has no access to anything else."""

from pathlib import Path

import pytest

from oel_core.evaluation.code.sandbox import CodeError, returned_values


def run(body: str, *cases: list[object]) -> list[object]:
    return returned_values(body, "f", cases or [[]])


def test_values_are_those_of_json() -> None:
    assert run("def f(x): return (x, {1: None})", [1], ["a"]) == [[1, {"1": None}], ["a", {"1": None}]]


def test_the_library_of_python_may_be_used_and_what_is_printed_is_dropped() -> None:
    code = "import collections, datetime, re, heapq, dataclasses\nprint('{}')\n"
    code += "P = collections.namedtuple('P', 'a')\ndef f():\n    print('x')\n    return re.sub('a', 'b', P('a').a)"
    assert run(code) == ["b"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def g(): return 1", "KeyError"),
        ("def f(: return 1", "SyntaxError"),
        ("def f(): raise SystemExit(0)", "SystemExit"),
        ("def f(): return object()", "not JSON serializable"),
        ("def f(): return float('nan')", "ValueError"),
        ("def f(): return f()", "RecursionError"),
        ("import os\nos._exit(0)", "ended by a limit"),
        ("def f(): return 'x' * 100_000", "too much"),
        ("import os\ndef f(): os.write(3, b'{}'); return 1", "while it answered"),
        ("def f(): return bytearray(2**30)", "MemoryError"),
        ("def f():\n    while True: pass", "ended by a limit"),
    ],
)
def test_code_that_gives_no_values_says_why(code: str, reason: str) -> None:
    with pytest.raises(CodeError, match=reason):
        run(code)


@pytest.mark.parametrize(
    "body",
    [
        "open('/etc/hostname').read()",
        "open('here', 'w')",
        "__import__('os').listdir('/') and __import__('os').system('true')",
        "__import__('subprocess').run(['true'])",
        "__import__('socket').socket()",
        "__import__('urllib.request').request.urlopen('http://127.0.0.1')",
        "__import__('ctypes').CDLL(None)",
        "__import__('os').fork()",
        "__import__('os').kill(1, 0)",
    ],
)
def test_files_processes_and_the_network_are_out_of_reach(body: str) -> None:
    with pytest.raises(CodeError, match="PermissionError"):
        run(f"def f(): return {body}")


def test_the_environment_is_empty_and_the_folder_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OEL_SECRET", "x")
    (values,) = run("import os\ndef f(): return [os.getcwd(), sorted(os.environ)]")
    assert isinstance(values, list)
    assert not Path(values[0]).exists()
    assert "OEL_SECRET" not in values[1]
