"""Files of `oel new` work unchanged: the environment satisfies the contract and is played, the preset loads."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from oel_core.config.run import load_config
from oel_core.config.yaml_text import read_yaml
from oel_core.envs import EnvSpec, make_env
from oel_core.preflight.dry_run import dry_run
from oel_core.preflight.schema import preset_schema
from oel_core.testing import check_environment

Oel = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[3]


def test_a_new_environment_keeps_the_contract(oel: Oel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = oel("new", "env", "red_doors", "--folder", tmp_path)
    assert code == 0
    (shown,) = re.findall(r"oel (run tiny .*)", out)
    assert "keleton" not in (tmp_path / "red_doors.py").read_text()
    monkeypatch.syspath_prepend(tmp_path)
    responses = [f"[{colour}]" for colour in ("red", "green", "blue", "white")]
    check_environment(lambda seed: make_env(EnvSpec("red_doors:RedDoorsEnv"), seed), responses)
    code, _, err = oel(*shown.split(), "--dry-run", "--root", tmp_path)
    assert (code, err) == (0, "")


def test_its_own_test_passes_where_it_was_written(oel: Oel, tmp_path: Path) -> None:
    oel("new", "env", "doors", "--folder", tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_doors.py")]
    subprocess.run([sys.executable, *tests], check=True, env=environment, cwd=tmp_path)


def test_a_new_preset_can_be_run_and_fits_the_schema(oel: Oel, tmp_path: Path) -> None:
    assert oel("new", "preset", "mine", "--folder", tmp_path)[0] == 0
    path = tmp_path / "mine.yaml"
    assert path.read_text().startswith("# yaml-language-server: $schema=oel.schema.json\n")
    config = load_config(str(path))
    assert config.description == "mine"
    assert config.environment == load_config("quickstart").environment
    assert dry_run(config, tmp_path).missing == ()
    jsonschema.validate(read_yaml(path).mapping(), preset_schema())


@pytest.mark.parametrize("kind", ["env", "preset"])
def test_nothing_is_overwritten_and_names_are_checked(oel: Oel, tmp_path: Path, kind: str) -> None:
    (tmp_path / "test_mine.py").write_text("kept")
    (tmp_path / "mine.yaml").write_text("kept")
    for name, problem in [("mine", "exists already"), ("../up", "use small letters"), ("Mine", "use small letters")]:
        code, _, err = oel("new", kind, name, "--folder", tmp_path)
        assert (code, problem in err) == (2, True)
    code, _, err = oel("new", kind, "other", "--folder", tmp_path / "nowhere")
    assert (code, "there is no folder" in err) == (2, True)
    assert {path.name for path in tmp_path.iterdir()} == {"test_mine.py", "mine.yaml"}
    assert (tmp_path / "test_mine.py").read_text() == "kept"
