"""Imports point down only (flows → tasks → oel_core), and each heavy package is known by one module."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {"oel_core": 0, "tasks": 1, "flows": 2}
ONE_HOME = {
    "mlflow": "tasks/tracking/client.py",
    "peft": "oel_core/models/loading.py",
    "trl": "oel_core/distillation/training/trainer.py",
    "textworld": "oel_core/envs/textworld/engine.py",
    "textarena": "oel_core/envs/textarena.py",
    "vllm": "oel_core/policies/vllm/policy.py",
    "lm_eval": "oel_core/evaluation/harness/lm_eval.py",
    "langdetect": "oel_core/evaluation/harness/lm_eval.py",
    "nltk": "oel_core/evaluation/harness/punkt.py",
    "punkt": "oel_core/evaluation/harness/punkt.py",
    "matplotlib": "oel_core/study/plots.py",
}
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


@cache
def imported(path: Path) -> frozenset[str]:
    """Top-level packages that a file imports anywhere in it, `import_module("...")` included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {str(word.value).split(".")[0] for word in node.args if isinstance(word, ast.Constant)}
    return frozenset(found)


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("layer", LAYERS)
def test_arrows_point_down(layer: str) -> None:
    above = {other for other, height in LAYERS.items() if height > LAYERS[layer]}
    for path in SOURCES:
        if path.is_relative_to(ROOT / layer):
            assert not imported(path) & above, f"{path} knows of a layer above it"


def test_the_library_knows_of_neither_prefect_nor_mlflow() -> None:
    for path in SOURCES:
        if path.is_relative_to(ROOT / "oel_core"):
            assert not imported(path) & {"prefect", "mlflow", "typer"}, path


@pytest.mark.parametrize("package", ONE_HOME)
def test_a_heavy_package_has_one_home(package: str) -> None:
    homes = [path.relative_to(ROOT).as_posix() for path in SOURCES if package in imported(path)]
    assert set(homes) <= {ONE_HOME[package]}
