"""What float rounding can break is run again under other vector instructions and thread counts: `numeric` marks it."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
COMPARES = ("assert_close", "allclose", "forward_rounding", "in_float64", "require_bfloat16_attention", "rounding")
"""Names by which a test compares numbers of torch, or depends on its processor."""
MODULES = [path for path in sorted(TESTS.rglob("test_*.py")) if path != Path(__file__)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_that_compares_floats_of_torch_is_marked(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = {name.id for name in ast.walk(ast.parse(text)) if isinstance(name, ast.Name)}
    used |= {name.attr for name in ast.walk(ast.parse(text)) if isinstance(name, ast.Attribute)}
    assert not used & set(COMPARES) or "pytest.mark.numeric" in text


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_bounds_are_derived(path: Path) -> None:
    """No `rtol` or `atol` that is a constant but nought: `tests/rounding.py` says how far apart two sums may lie."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in (call for call in calls if ast.unparse(call.func).endswith("assert_close")):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        for name in ("rtol", "atol"):
            value = given.get(name)
            assert value is not None, f"line {call.lineno}: torch's own {name} comes from no derivation"
            assert not isinstance(value, ast.Constant) or value.value == 0, f"line {call.lineno}: {name}"
