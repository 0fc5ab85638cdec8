"""`oel config`, `oel presets`, `oel envs`: shows configurations, presets and environments."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import complete
from flows.cli.help import example
from flows.cli.shared import RUNS, AsJson, Overrides, PresetName, Root, echo, out, print_json, print_table

if TYPE_CHECKING:
    from oel_core.config.run import OelConfig

app = typer.Typer(help="Configurations.", no_args_is_help=True)
Either = Annotated[
    str, typer.Argument(help="Preset, YAML file, or folder of a run.", autocompletion=complete.configurations)
]


@app.command("show", epilog=example("oel config show quickstart --set distill.steps=5"))
def show(preset: PresetName, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print the resolved configuration as YAML."""
    from oel_core.config.run import dump_config, load_config
    from oel_core.envs import check_spec
    from oel_core.envs.base import env_spec

    config = load_config(preset, overrides or ())
    check_spec(env_spec(config))
    if as_json:
        print_json([config.model_dump(mode="json")])
    else:
        echo(dump_config(config).rstrip("\n"))


@app.command("diff", epilog=example("oel config diff quickstart runs/lake"))
def diff(first: Either, second: Either, root: Root = RUNS, as_json: AsJson = False) -> None:
    """Print the settings in which two presets, files or runs differ."""
    from oel_core.runs.manifest import flatten

    old, new = (flatten(_config_of(name, root).model_dump(mode="json")) for name in (first, second))
    fields = [field for field in sorted(old.keys() | new.keys()) if old.get(field) != new.get(field)]
    if as_json:
        print_json([{"field": field, "first": old.get(field), "second": new.get(field)} for field in fields])
    elif fields:
        rows = [(field, _shown(old.get(field)), _shown(new.get(field))) for field in fields]
        print_table("", ("field", first, second), rows)
    else:
        out.print(f"{first} and {second} say the same", markup=False, highlight=False, soft_wrap=True)


@app.command("schema", epilog=example("oel config schema --out oel.schema.json"))
def schema(
    out_file: Annotated[Path | None, typer.Option("--out", help="File to write instead of printing.")] = None,
) -> None:
    """Print a JSON Schema of presets, for completion and validation in editors."""
    import json

    from oel_core.preflight.schema import preset_schema
    from oel_core.runs.files import write_atomic

    text = json.dumps(preset_schema(), indent=1)
    if out_file is None:
        echo(text)
    else:
        write_atomic(out_file, f"{text}\n".encode())


def _config_of(name: str, root: Path) -> "OelConfig":
    """The configuration of a run's folder, a preset or file, or a run under `root`, in this order."""
    from oel_core.config.run import load_config, preset_names
    from oel_core.runs.folder import find_run

    if name in preset_names() or os.path.isfile(name):
        return load_config(name)
    if os.path.isdir(name) or os.path.isdir(root / name):
        return find_run(root, name).config()
    return load_config(name)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def presets(as_json: AsJson = False) -> None:
    """List the built-in presets."""
    from rich.table import Table

    from oel_core.config.run import load_config, preset_names

    rows = {name: load_config(name).description for name in preset_names()}
    if as_json:
        print_json([{"preset": name, "description": text} for name, text in rows.items()])
        return
    table = Table("preset", "what it is")
    for name, text in rows.items():
        table.add_row(name, text)
    out.print(table)


def envs(as_json: AsJson = False) -> None:
    """List the environments and their options."""
    from rich.table import Table
    from rich.text import Text

    from oel_core.envs import describe_envs

    infos = describe_envs()
    if as_json:
        print_json(
            [
                {"env": info.name, "summary": info.summary, "options": [vars(option) for option in info.options]}
                for info in infos
            ]
        )
        return
    table = Table("environment", "option", "default", "meaning")
    for info in infos:
        table.add_row(Text(info.name, style="bold"), "", "", info.summary, end_section=not info.options)
        for option in info.options:
            last = option is info.options[-1]
            table.add_row("", option.name, str(option.default), option.help, end_section=last)
    out.print(table)
