"""Checks shared by the compose file and the manifests: that what they name exists in the code."""

import re
from collections.abc import Iterable, Sequence
from functools import cache

import click
import typer.main
from mlflow import environment_variables
from mlflow.cli import cli as mlflow_cli

from flows.cli.app import app
from oel_core.config.run import check_overrides
from tests.deployments.composed import ROOT

FROM_OTHERS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "POSTGRES_PASSWORD")
"""Read by boto3; the last one is put into an address."""
PINNED = re.compile(r"^[\w./-]+:[\w.-]*\d[\w.-]*$")
"""An image with a tag that names a version."""


@cache
def own_names() -> frozenset[str]:
    """Environment variables that the project's code names."""
    paths = [path for folder in ("oel_core", "tasks", "flows") for path in (ROOT / folder).rglob("*.py")]
    return frozenset(name for path in paths for name in re.findall(r"OEL_[A-Z_]+", path.read_text()))


@cache
def prefect_names() -> frozenset[str]:
    """Environment variables of Prefect's settings."""
    from prefect.settings import get_current_settings
    from prefect.settings.base import PrefectBaseSettings

    def names(settings: PrefectBaseSettings) -> set[str]:
        found: set[str] = set()
        for field, info in type(settings).model_fields.items():
            value = getattr(settings, field)
            if isinstance(value, PrefectBaseSettings):
                found |= names(value)
                continue
            alias = info.validation_alias
            choices = getattr(alias, "choices", [field])
            prefix = settings.model_config.get("env_prefix", "")
            found |= {str(choice).upper() for choice in choices} | {f"{prefix}{field}".upper()}
        return found

    return frozenset(names(get_current_settings()))


@cache
def mlflow_names() -> frozenset[str]:
    """Environment variables of MLflow: its own list, and those of the options of `mlflow server`."""
    options = mlflow_cli.commands["server"].params
    return frozenset(
        {name for name in dir(environment_variables) if name.startswith("MLFLOW_")}
        | {str(option.envvar) for option in options if isinstance(option, click.Option) and option.envvar}
    )


def unknown(names: Iterable[str], own: Iterable[str] = ()) -> list[str]:
    """Those that nothing reads; `own` are named to a command on its command line."""
    known = own_names() | prefect_names() | mlflow_names() | {*FROM_OTHERS, *own}
    return sorted(name for name in names if name not in known)


def check_command(words: Sequence[str]) -> None:
    """Fails unless the command and all its options exist; fields in `--set` have to be of the configuration."""
    program, *arguments = words
    if program == "oel":
        _check_options(typer.main.get_command(app), arguments)
        check_overrides([word.removeprefix("--set=") for word in arguments if word.startswith("--set=")])
    elif program == "mlflow":
        _check_options(mlflow_cli, arguments)
    elif program == "prefect":
        _check_prefect(arguments)
    elif arguments[:2] == ["-m", "tasks.tracking.server"]:
        _check_options(mlflow_cli, ["server", *arguments[2:]])
    elif program == "python":
        assert (ROOT / arguments[0]).is_file(), words
    else:
        assert program in ("/garage", "pg_isready"), words


def _check_options(command: click.Command, arguments: Sequence[str]) -> None:
    """Parses the arguments as the program would, without running it."""
    rest = list(arguments)
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest, resilient_parsing=False)


def _check_prefect(arguments: Sequence[str]) -> None:
    from prefect.cli._app import _app as prefect_app  # the object behind the public function

    prefect_app.parse_args(list(arguments), exit_on_error=False, print_error=False)
