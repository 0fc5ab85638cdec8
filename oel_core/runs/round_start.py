"""What a round starts from: which round's model, which round's knowledge, and how far the inbox was read.

A round that nobody decided about starts from the round before it, as `oel run` does. A recurring round starts from
the champion, which need not be the round before it: what a gate refused is not built upon.
"""

from pydantic import Field

from oel_core.errors import ConfigError
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import MANIFEST, STARTED, RunFolder, round_name
from oel_core.runs.manifest import read_if_there
from oel_core.types import Record

START = "start.json"


class RoundStart(Record):
    """`start.json` in a round's folder. Written before anything else of the round."""

    parent: int = Field(ge=0)
    """The round whose model the round starts from; 0 is the base model."""
    knowledge: int | None
    """The round whose knowledge goes on, where knowledge is carried over."""
    trigger: str
    """Id of the trigger that began the round."""
    inbox_episodes: int | None = None
    """Episodes taken from the inbox; None: the round plays its own."""
    inbox_read_to: dict[str, int] = Field(default_factory=dict)
    """File of the inbox → bytes of it that this round and those before it have read."""
    inbox_left_out: tuple[str, ...] = ()
    """What was wrong with lines of the inbox that the round does not use, each with how many lines it was."""


def read_start(run: RunFolder, round_index: int) -> RoundStart | None:
    """The decision about a round's start, or None when nobody decided."""
    path = run.path / round_name(round_index) / START
    return read_if_there(path, RoundStart)


def write_start(run: RunFolder, round_index: int, start: RoundStart) -> None:
    """From now on the round is begun."""
    write_atomic(run.path / round_name(round_index) / START, start.model_dump_json(indent=1).encode())


def parent_of(run: RunFolder, round_index: int) -> int:
    """The round whose model a round starts from."""
    start = read_start(run, round_index)
    return round_index - 1 if start is None else start.parent


def knowledge_before(run: RunFolder, round_index: int) -> int | None:
    """The round whose knowledge a round goes on from when knowledge is carried over; None: from nothing."""
    start = read_start(run, round_index)
    if start is not None:
        return start.knowledge
    return round_index - 1 if round_index > 1 else None


def last_begun(run: RunFolder) -> int:
    """The newest round that has been decided about or has a stage, finished or half done; 0 when there is none."""
    return max((index for index in run.rounds() if index and _is_begun(run, index)), default=0)


def require_ungated(run: RunFolder, rounds: int) -> None:
    """Raises ConfigError when a plain loop would build on what a gate may have refused."""
    last = last_begun(run)
    gated = [index for index in run.rounds() if read_start(run, index) is not None]
    if gated and rounds > last:
        raise ConfigError(
            f"round {gated[-1]} of {run.path} was started from the registry's champion, so later ones are too: run "
            f"`oel trigger next-round`, or leave rounds at {last}"
        )


def _is_begun(run: RunFolder, round_index: int) -> bool:
    folder = run.path / round_name(round_index)
    return (folder / START).exists() or any(any(folder.rglob(name)) for name in (MANIFEST, STARTED))
