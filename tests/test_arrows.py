"""Imports point down: from flows to tasks to the library, and from room to room of the library without a circle. Each
heavy package is known by one module."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = (
    "errors",
    "types",
    "seeds",
    "text",
    "compat",
    "plugins",
    "config",
    "runs",
    "models",
    "prompts",
    "policies",
    "knowledge",
    "distillation",
    "envs",
    "rollouts",
    "evaluation",
    "cases",
    "rounds",
    "projects",
    "imports",
    "serving",
    "bundles",
    "gate",
    "health",
    "preflight",
    "stages",
    "reporting",
    "study",
    "housekeeping",
    "seed_lm",
    "testing",
    "facade",
)
"""The rooms of `oel_core`, each of which may import those before it."""
LAYERS = (*(f"oel_core.{room}" for room in ROOMS), "tasks", "deployments", "flows")
ONE_HOME = {
    "mlflow": "tasks/tracking/client.py",
    "peft": "oel_core/models/adapters.py",
    "trl": "oel_core/compat/trl.py",
    "textworld": "oel_core/envs/textworld/engine.py",
    "textarena": "oel_core/envs/textarena.py",
    "gymnasium": "oel_core/envs/gymnasium.py",
    "verifiers": "oel_core/envs/verifiers/engine.py",
    "llguidance": "oel_core/policies/hf/constraint.py",
    "vllm": "oel_core/policies/vllm/policy.py",
    "ray": "oel_core/policies/replicated/ray_workers.py",
    "lm_eval": "oel_core/evaluation/harness/lm_eval.py",
    "langdetect": "oel_core/evaluation/harness/lm_eval.py",
    "nltk": "oel_core/evaluation/harness/punkt.py",
    "punkt": "oel_core/evaluation/harness/punkt.py",
    "presidio_analyzer": "oel_core/imports/presidio.py",
    "fsspec": "oel_core/runs/stored/objects.py",
    "matplotlib": "oel_core/study/plots.py",
}
SOURCES = sorted(path for top in ("oel_core", "tasks", "flows", "deployments") for path in (ROOT / top).rglob("*.py"))
PRIVATE_PARTS_OF = {
    "torch": "oel_core/compat/torch.py",
    "transformers": "oel_core/compat/transformers.py",
    "lm_eval": ONE_HOME["lm_eval"],
}
"""The one module that may use names which a third party keeps private."""
DOCUMENTED = frozenset({"os._exit", "_asdict", "_replace"})
"""Public in spite of their underscore: of the standard library and of named tuples."""


def names(path: Path) -> Iterator[str]:
    """Every module and name that a file imports anywhere in it, `import_module("...")` included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "resources.files")):
            yield from (str(word.value) for word in node.args if isinstance(word, ast.Constant))


@cache
def imported(path: Path) -> frozenset[str]:
    """Top-level packages that a file imports."""
    return frozenset(name.split(".")[0] for name in names(path))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(tree: ast.AST) -> Iterator[str]:
    """Imports of private names, and private attributes of anything but `self`, `cls` and `super()`."""
    own = {"oel_core", "tasks", "flows", "deployments"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if any(map(is_private, one.name.split("."))))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] not in own:
            paths = [f"{node.module}.{one.name}" for one in node.names]
            yield from (path for path in paths if any(map(is_private, path.split("."))))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            whole = ast.unparse(node)
            mine = ast.unparse(node.value) in ("self", "cls", "super()")
            if not mine and not DOCUMENTED & {whole, node.attr}:
                yield whole
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and is_private(str(arg.value)))


def layer_of(name: str) -> str | None:
    """The layer that a dotted name of the project lies in; None for the façade `oel_core` itself and foreign names."""
    parts = name.split(".")
    if parts[0] != "oel_core":
        return parts[0] if parts[0] in LAYERS else None
    return ".".join(parts[:2]) if len(parts) > 1 and ".".join(parts[:2]) in LAYERS else None


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 50


def test_every_room_has_its_place() -> None:
    rooms = {
        path.stem if path.suffix == ".py" else path.name
        for path in (ROOT / "oel_core").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_point_down(path: Path) -> None:
    own = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:  # the façade: it lends what lies anywhere in the library
        assert not imported(path) & {"tasks", "flows", "deployments"}
        return
    above = LAYERS[LAYERS.index(own) + 1 :]
    assert [name for name in names(path) if layer_of(name) in above] == []


def test_the_library_knows_of_neither_prefect_nor_mlflow() -> None:
    for path in SOURCES:
        if path.is_relative_to(ROOT / "oel_core"):
            assert not imported(path) & {"prefect", "mlflow", "typer"}, path


@pytest.mark.parametrize("package", ONE_HOME)
def test_a_heavy_package_has_one_home(package: str) -> None:
    homes = [path.relative_to(ROOT).as_posix() for path in SOURCES if package in imported(path)]
    assert set(homes) <= {ONE_HOME[package]}


def test_private_names_of_others_are_used_in_one_module_a_library() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): uses
        for path in SOURCES
        if (uses := list(private_uses(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert {place: uses for place, uses in found.items() if place not in PRIVATE_PARTS_OF.values()} == {}
    assert set(found) == set(PRIVATE_PARTS_OF.values()), "a module that is not needed any more"


@pytest.mark.parametrize(
    ("line", "uses"),
    [
        ("from lib import _x", ["lib._x"]),
        ("from lib._y import x", ["lib._y.x"]),
        ("import lib._y as z", ["lib._y"]),
        ("lib.part._x", ["lib.part._x"]),
        ("getattr(config, '_x', None)", ["_x"]),
        ("self._x, cls._x, super()._x, os._exit(0), record._asdict(), lib.__version__", []),
        ("from oel_core.runs import _x", []),
    ],
)
def test_private_uses_are_seen(line: str, uses: list[str]) -> None:
    assert list(private_uses(ast.parse(line))) == uses
