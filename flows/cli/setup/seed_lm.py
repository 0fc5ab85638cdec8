"""`oel seed-lm`: the embedded model."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.help import example

app = typer.Typer(help="The embedded seed model.", no_args_is_help=True)


@app.callback()
def seed_lm() -> None:
    """The embedded seed model."""


@app.command("train", epilog=example("oel seed-lm train --out my-model --steps 500"))
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Batches; 6000 if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of corpus and weights.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Folder of an earlier seed model to continue from.")] = None,
    course: Annotated[
        str, typer.Option(help="Training course: lake, or two-worlds (the lake and the relics).")
    ] = "lake",
    rate: Annotated[float | None, typer.Option(min=0, help="Peak learning rate; 3e-3 if not given.")] = None,
) -> None:
    """Train the seed model on its synthetic corpus, from scratch or from earlier weights."""
    from oel_core.seed_lm.courses import get_course
    from oel_core.seed_lm.train import PEAK_RATE, STEPS
    from oel_core.seed_lm.train import train as train_model

    train_model(out, steps or STEPS, seed, start, course=get_course(course), peak_rate=rate or PEAK_RATE)
