"""`oel new`: creates the files of a new environment or preset."""

import re
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.help import example
from flows.cli.shared import echo
from oel_core.errors import ConfigError

app = typer.Typer(help="Create environments and presets.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Lower-case letters, digits and underscores; also the name of the files.")]
Folder = Annotated[Path, typer.Option("--folder", help="Folder of the new files.")]
HERE = Path()

ENVIRONMENT_TEST = '''"""The environment keeps the contract that rollouts rely on."""

from {name} import COLOURS, {cls}Env

from oel_core.envs import EnvSpec
from oel_core.testing import check_environment


def test_contract() -> None:
    check_environment(lambda seed: {cls}Env(EnvSpec("{name}"), seed), [f"[{{colour}}]" for colour in COLOURS[:4]])
'''


@app.command("env", epilog=example("oel new env doors"))
def env(name: Name, folder: Folder = HERE) -> None:
    """Create a commented environment that can be played at once, and a test of its contract."""
    from importlib import resources

    _require(name)
    cls = "".join(part.capitalize() for part in name.split("_"))
    source = (resources.files("oel_core.testing") / "skeleton.py").read_text(encoding="utf-8")
    _, _, body = source.partition('"""\n')
    files = {
        folder / f"{name}.py": f'"""The environment `{name}`."""\n{body.replace("Skeleton", cls)}',
        folder / f"test_{name}.py": ENVIRONMENT_TEST.format(name=name, cls=cls),
    }
    _write(files)
    echo(f"Check it: PYTHONPATH={folder} python -m pytest {folder / f'test_{name}.py'}")
    chosen = f"--set environment.name={name}:{cls}Env --set environment.options={{}}"
    echo(f"Play it:  PYTHONPATH={folder} oel run tiny {chosen}")


@app.command("preset", epilog=example("oel new preset mine"))
def preset(name: Name, folder: Folder = HERE) -> None:
    """Create a preset with the settings that are changed most often, each with its description."""
    from oel_core.preflight.skeleton import preset_skeleton

    _require(name)
    target = folder / f"{name}.yaml"
    _write({target: preset_skeleton(name)})
    echo(f"Check it: oel run {target} --dry-run")
    echo("Complete it in an editor: oel config schema --out oel.schema.json, in the same folder")


def _require(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ConfigError(f"name '{name}': use small letters, digits and underscores, first a letter")


def _write(files: dict[Path, str]) -> None:
    """All of the files or none. ConfigError if one exists already or the folder does not."""
    for path in files:
        if path.exists():
            raise ConfigError(f"{path} exists already: choose another name or --folder")
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent}: make it, or choose another --folder")
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        echo(f"wrote {path}")
