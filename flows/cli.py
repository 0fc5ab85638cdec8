"""`oel`: the command line. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."""

import sys
from collections.abc import Sequence

import typer

from flows.commands import (
    configs,
    deployments,
    doctor,
    evaluate,
    knowledge,
    models,
    probe,
    promotion,
    report,
    review,
    runs,
    seed_lm,
    services,
    study,
)
from flows.commands.shared import err
from oel_core.errors import ArtifactError, ConfigError, OelError
from oel_core.visible import visible

DONE, FAILED, USAGE = 0, 1, 2

app = typer.Typer(
    help="Online Experiential Learning: language models that learn from their own deployment, round by round.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(runs.run)
app.command("rounds")(runs.rounds)
app.command("study")(study.study)
app.command("report")(report.report)
app.command("review")(review.review)
app.add_typer(knowledge.app, name="knowledge")
app.command("eval")(evaluate.evaluate)
app.add_typer(configs.app, name="config")
app.command("presets")(configs.presets)
app.command("envs")(configs.envs)
app.add_typer(models.app, name="models")
app.add_typer(seed_lm.app, name="seed-lm")
app.command("probe")(probe.probe)
app.command("doctor")(doctor.doctor)
app.command("up")(services.up)
app.command("down")(services.down)
app.command("status")(services.status)
app.command("deploy")(deployments.deploy)
app.command("schedule")(deployments.schedule)
app.command("trigger")(deployments.trigger)
app.command("promote")(promotion.promote)
app.command("rollback")(promotion.rollback)
app.command("history")(promotion.history)


def call(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code. Expected errors become a message, not a traceback."""
    try:
        app(list(arguments), prog_name="oel")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    except (ConfigError, ArtifactError) as error:
        return _say(str(error), USAGE)
    except OelError as error:
        return _say(str(error), FAILED)
    return DONE


def _say(message: str, code: int) -> int:
    err.print(visible(message), style="red", markup=False, highlight=False, soft_wrap=True)
    return code


def main() -> None:
    """Entry point of the console script."""
    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
