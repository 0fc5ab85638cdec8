"""`oel join`: takes part in the distillations of a run on another machine."""

from typing import Annotated

import typer

from flows.cli.shared import RUNS, Root, err

WAIT_S = 120.0


def join(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, which may start later.")],
    wait: Annotated[
        float, typer.Option(min=1, help="Seconds without a process that works on the run after which to end.")
    ] = WAIT_S,
    root: Root = RUNS,
) -> None:
    """Take part in the distillations of a run on another machine (`distill.nodes`)."""
    from oel_core.distillation.distributed.join import join as take_part
    from oel_core.runs.folder import require_run_name

    require_run_name(run)
    try:
        take_part(root / run, wait, lambda line: err.print(line, markup=False, highlight=False, soft_wrap=True))
    except KeyboardInterrupt:
        raise typer.Exit(1) from None
