"""What lies in examples/ works: the package is installed into a folder and played, the notebook is executed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_the_environment_of_another_package_is_installed_and_played(tmp_path: Path) -> None:
    site, package = tmp_path / "site", tmp_path / "oel-env-hello"
    package.mkdir()
    for file in (EXAMPLES / "oel-env-hello").rglob("*"):  # a copy: building leaves files beside the sources
        if file.suffix in (".py", ".toml", ".md"):
            target = package / file.relative_to(EXAMPLES / "oel-env-hello")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, *install, str(package)], check=True)
    paths = os.pathsep.join([str(site), str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "test_world.py")]
    subprocess.run([sys.executable, *tests], check=True, env=environment, cwd=tmp_path)
    listed = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "envs", "--json"], check=True, env=environment, capture_output=True
    )
    assert "hello" in {json.loads(line)["env"] for line in listed.stdout.splitlines()}


@pytest.mark.slow
def test_the_notebook_does_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((EXAMPLES / "one_round.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        exec(compile(cell, "one_round.ipynb", "exec"), names)
    before, after = names["before"], names["after"]
    assert after.pass_rate > before.pass_rate  # type: ignore[attr-defined]
    assert (tmp_path / "one_round.png").stat().st_size > 1000
