"""`oel`: the command line. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from flows.cli.bundles import bundle
from flows.cli.bundles import gather as gathering
from flows.cli.help import GroupedCommands, example
from flows.cli.knowledge import report, review
from flows.cli.knowledge import show as knowledge
from flows.cli.runs import abandon, cancel, compact, evaluate, join, list_runs, logs, open_run, study
from flows.cli.runs import run as runs
from flows.cli.services import cases, deployments, forget, import_logs, init, notify, promotion, serve
from flows.cli.services import lifecycle as services
from flows.cli.setup import configs, doctor, models, new, probe, seed_lm
from flows.cli.shared import VisibleRecord, echo, err
from oel_core import __version__
from oel_core.errors import ArtifactError, ConfigError, OelError
from oel_core.runs.files import is_full

DONE, FAILED, USAGE = 0, 1, 2

LEARN, LOOK, PROJECTS, SERVE, HERE = (
    "Train and evaluate",
    "Inspect runs",
    "Projects",
    "Servers and schedules",
    "Configurations and models",
)
app = typer.Typer(
    cls=GroupedCommands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _add(panel: str, name: str, command: Callable[..., None], shown: str) -> None:
    app.command(name, rich_help_panel=panel, epilog=example(shown))(command)


_add(LEARN, "run", runs.run, "oel run quickstart --name lake --rounds 2")
_add(LEARN, "join", join.join, "oel join lake --root /shared/runs")
_add(LEARN, "study", study.study, "oel study quickstart --seeds 3 --arms own,sft")
_add(LEARN, "eval", evaluate.evaluate, "oel eval runs/lake/round_02/distill/checkpoint --suite games")
_add(LEARN, "probe", probe.probe, "oel probe quickstart --prompt 'Say one word.'")
_add(LOOK, "runs", list_runs.runs, "oel runs --json")
_add(LOOK, "rounds", runs.rounds, "oel rounds lake --json")
_add(LOOK, "report", report.report, "oel report lake --out lake.html")
_add(LOOK, "review", review.review, "oel review lake --approve --drop 3,7")
_add(LOOK, "open", open_run.open_page, "oel open lake --page mlflow")
_add(LOOK, "logs", logs.logs, "oel logs lake --follow")
_add(LOOK, "clean", list_runs.clean, "oel clean lake --yes")
_add(LOOK, "compact", compact.compact, "oel compact lake --keep 3 --yes")
_add(PROJECTS, "init", init.init, "oel init lake --preset tiny")
_add(PROJECTS, "import", import_logs.import_, "oel import openai-chat calls.jsonl --into runs/inbox")
_add(PROJECTS, "serve", serve.serve, "oel serve lake --port 8010")
_add(PROJECTS, "cases", cases.cases, "oel cases shop")
_add(PROJECTS, "gather", gathering.gather, "oel gather lake --preset quickstart")
_add(PROJECTS, "forget", forget.forget, "oel forget user-17 --inbox runs/inbox --yes")
_add(PROJECTS, "promote", promotion.promote, "oel promote lake --round 2")
_add(PROJECTS, "rollback", promotion.rollback, "oel rollback lake --reason 'too slow'")
_add(PROJECTS, "history", promotion.history, "oel history lake --json")
_add(PROJECTS, "trigger", deployments.trigger, "oel trigger next-round --set project=lake --wait")
_add(PROJECTS, "cancel", cancel.cancel, "oel cancel lake")
_add(PROJECTS, "abandon", abandon.abandon, "oel abandon lake 4 --reason 'its inbox was wrong'")
_add(SERVE, "up", services.up, "oel up --pool oel-cpu")
_add(SERVE, "down", services.down, "oel down --grace 30")
_add(SERVE, "status", services.status, "oel status --json")
_add(SERVE, "deploy", deployments.deploy, "oel deploy --pool oel-gpu")
_add(SERVE, "schedule", deployments.schedule, "oel schedule next-round --cron '0 3 * * *' --set project=lake")
_add(SERVE, "notify", notify.notify, "oel notify --webhook-env CHAT_WEBHOOK")
_add(HERE, "presets", configs.presets, "oel presets --json")
_add(HERE, "envs", configs.envs, "oel envs")
_add(HERE, "doctor", doctor.doctor, "oel doctor --root runs")
app.add_typer(knowledge.app, name="knowledge", rich_help_panel=LOOK)
app.add_typer(bundle.app, name="bundle", rich_help_panel=PROJECTS)
app.add_typer(configs.app, name="config", rich_help_panel=HERE)
app.add_typer(new.app, name="new", rich_help_panel=HERE)
app.add_typer(models.app, name="models", rich_help_panel=HERE)
app.add_typer(seed_lm.app, name="seed-lm", rich_help_panel=HERE)


def _version(asked: bool) -> None:
    if asked:
        echo(f"oel {__version__}")
        raise typer.Exit


@app.callback()
def oel(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Online Experiential Learning: language models that learn from their own deployment, round by round."""


_FREE = "free some space and run the same command again; it resumes after the last finished work"


def call(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code. Expected errors are printed as a message, not a traceback."""
    try:
        app(list(arguments), prog_name="oel")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    except (ConfigError, ArtifactError) as error:
        return _say(str(error), USAGE)
    except OelError as error:
        return _say(str(error), FAILED)
    except OSError as error:
        if not is_full(error):
            raise
        place = error.filename or "a file"
        return _say(f"{place} cannot be written, the disk is full ({error.strerror}): {_FREE}", FAILED)
    return DONE


def _say(message: str, code: int) -> int:
    err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    return code


_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHERS = ("TORCHELASTIC_", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")


def ignore_launcher() -> None:
    """Removes the variables by which torchrun or MPI tells a process its rank: accelerate would wait for the others."""
    for name in [name for name in os.environ if name in _LAUNCHED or name.startswith(_LAUNCHERS)]:
        del os.environ[name]


def main() -> None:
    """Entry point of the console script."""
    ignore_launcher()
    logging.setLogRecordFactory(VisibleRecord)
    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
