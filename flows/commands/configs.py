"""`oel config`, `oel presets`, `oel envs`: what can be run."""

from typing import Annotated

import typer

from flows.commands.shared import AsJson, Overrides, out, print_json

app = typer.Typer(help="Configurations.", no_args_is_help=True)


@app.command("show")
def show(preset: Annotated[str, typer.Argument(help="Preset name or YAML file.")], overrides: Overrides = None) -> None:
    """Print the resolved configuration as YAML."""
    from oel_core.config import dump_config, load_config

    typer.echo(dump_config(load_config(preset, overrides or ())), nl=False)


def presets(as_json: AsJson = False) -> None:
    """List the presets that ship with the project."""
    from rich.table import Table

    from oel_core.config import load_config, preset_names

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
        table.add_row(f"[bold]{info.name}[/bold]", "", "", info.summary, end_section=not info.options)
        for option in info.options:
            last = option is info.options[-1]
            table.add_row("", option.name, str(option.default), option.help, end_section=last)
    out.print(table)
