"""`oel eval`: measure any checkpoint on one suite, outside a run."""

import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import complete
from flows.cli.runs.live import live_progress
from flows.cli.shared import AsJson, Overrides, err, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oel_core.config.run import OelConfig
    from oel_core.policies.base import Policy
    from oel_core.types import EvalReport


def evaluate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, hub id, or seed-lm.")],
    suite: Annotated[
        str,
        typer.Option(help="games, another suite, or a task of lm-evaluation-harness.", autocompletion=complete.suites),
    ] = "games",
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Episodes or questions; the suite's own number if not given.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Local JSONL with the suite's questions (suite ifeval).")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the suite, like environment=sokoban.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset or YAML file; default: the settings of the checkpoint's run, else quickstart.",
            autocompletion=complete.presets,
        ),
    ] = None,
    knowledge: Annotated[
        Path | None, typer.Option(help="Knowledge for the prompts, a text file (suite games).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; the same command resumes there.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on held-out episodes."""
    from oel_core.policies import load_policy
    from oel_core.rounds.context import StageContext
    from oel_core.stages.measure import measure

    config = _config(model, preset, overrides or ())
    cap = config.knowledge.max_tokens
    known = None if knowledge is None else _read(knowledge, load_policy(model, config.model), cap)
    with live_progress(err) as progress, _folder(out) as folder:
        given = StageContext(on_progress=lambda done, total: progress(f"play {suite}", done, total))
        report = measure(
            folder, config, model, suite, _options(episodes, data, option or ()), knowledge=known, context=given
        )
    _show(report, out, as_json)


def _config(model: str, preset: str | None, overrides: "Sequence[str]") -> "OelConfig":
    """The settings of the preset, else those of the run and the round that made the checkpoint."""
    from oel_core.config.run import load_config
    from oel_core.runs.folder import CONFIG

    made = None if preset else re.search(r"(.+)/round_(\d+)/distill/checkpoint$", Path(model).absolute().as_posix())
    if made is None or not (settings := Path(made[1]) / CONFIG).is_file():
        return load_config(preset or "quickstart", overrides)
    err.print(f"Settings: {settings}, round {int(made[2])}", highlight=False, soft_wrap=True)
    return load_config(str(settings), overrides).at_round(int(made[2]))


def _show(report: "EvalReport", out: Path | None, as_json: bool) -> None:
    from flows.pages.measurement import rows

    if as_json:
        print_json([report.model_dump(mode="json")])
    else:
        print_table("", ("figure", "value"), rows(report))
    if out is not None:
        err.print(f"Answers and report: {out}", highlight=False, soft_wrap=True)


@contextmanager
def _folder(out: Path | None) -> "Iterator[Path]":
    """The output folder: `out`, or a temporary one."""
    if out is not None:
        yield out
        return
    with TemporaryDirectory() as folder:
        yield Path(folder) / "measurement"


def _options(episodes: int | None, data: str | None, more: "Sequence[str]") -> dict[str, Any]:
    """The suite's options from the command line."""
    from oel_core.config.yaml_text import parse_yaml
    from oel_core.errors import ConfigError

    options: dict[str, Any] = {}
    for entry in more:
        name, separator, value = entry.partition("=")
        if not separator or not name:
            raise ConfigError(f"--option {entry}: write it as name=value, like environment=sokoban")
        options[name] = parse_yaml(value, f"--option {entry}").values
    if episodes is not None:
        options["episodes"] = episodes
    if data is not None:
        options["data"] = data
    return options


def _read(path: Path, policy: "Policy", max_tokens: int) -> str:
    """Reads a knowledge text; raises where it exceeds the configuration's token cap."""
    from oel_core.errors import ArtifactError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read as text: {error}") from error
    tokens = policy.count_tokens(text)
    if tokens > max_tokens:
        raise ArtifactError(
            f"{path} has {tokens} tokens, over knowledge.max_tokens = {max_tokens}: shorten it, or raise the cap with "
            f"--set knowledge.max_tokens={tokens}"
        )
    if not text.strip():
        raise ArtifactError(f"{path} is empty: leave --knowledge out to measure without")
    return text
