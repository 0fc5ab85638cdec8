"""`oel seed-lm`: the embedded model."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The embedded seed model.", no_args_is_help=True)


@app.callback()
def seed_lm() -> None:
    """The embedded seed model."""


@app.command("train")
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    minutes: Annotated[float, typer.Option(min=0.0, help="Wall time of the training.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of corpus and weights.")] = 0,
) -> None:
    """Train the seed model from scratch on its synthetic corpus."""
    from oel_core.seed_lm.train import train as train_model

    train_model(out, minutes=minutes, seed=seed)
