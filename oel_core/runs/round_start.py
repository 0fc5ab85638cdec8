"""The start of a round: the rounds whose model and knowledge it starts from, and the inbox's read offsets.

Without a record a round starts from the previous round, as in `oel run`. A recurring round starts from the champion,
which may be an older round: a candidate that the gate rejected is not used.
"""

from pydantic import Field

from oel_core.errors import ConfigError
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import MANIFEST, STARTED, RunFolder, round_name
from oel_core.runs.manifest import read_optional
from oel_core.types import Record

START = "start.json"


class RoundStart(Record):
    """`start.json` in a round's folder, written before any other file of the round."""

    parent: int = Field(ge=0)
    """The round whose model the round starts from; 0 is the base model."""
    knowledge: int | None
    """The round whose knowledge is continued, if knowledge is carried over."""
    trigger: str
    """Id of the trigger that started the round."""
    inbox_episodes: int | None = None
    """Episodes taken from the inbox; None if the round plays its own."""
    inbox_read_to: dict[str, int] = Field(default_factory=dict)
    """File of the inbox → bytes of it read by this round and earlier ones."""
    inbox_rated_late: int = 0
    """How many of them got feedback after the gateway had written them down."""
    cases: str | None = None
    """Digest of the round's frozen set of cases; None if it has none."""
    inbox_left_out: tuple[str, ...] = ()
    """Problems of inbox lines that the round does not use, each with its number of lines."""


def read_start(run: RunFolder, round_index: int) -> RoundStart | None:
    """The record of a round's start; None if there is none."""
    path = run.path / round_name(round_index) / START
    return read_optional(path, RoundStart)


def write_start(run: RunFolder, round_index: int, start: RoundStart) -> None:
    """Records the start of a round."""
    write_atomic(run.path / round_name(round_index) / START, start.model_dump_json(indent=1).encode())


def parent_of(run: RunFolder, round_index: int) -> int:
    """The round whose model a round starts from."""
    start = read_start(run, round_index)
    return round_index - 1 if start is None else start.parent


def knowledge_before(run: RunFolder, round_index: int) -> int | None:
    """The round whose knowledge a round continues if knowledge is carried over; None for empty knowledge."""
    start = read_start(run, round_index)
    if start is not None:
        return start.knowledge
    return round_index - 1 if round_index > 1 else None


def last_begun(run: RunFolder) -> int:
    """The newest round that has a start record or a stage, finished or partial; 0 if there is none."""
    return max((index for index in run.rounds() if index and _is_begun(run, index)), default=0)


def require_ungated(run: RunFolder, rounds: int) -> None:
    """Raises ConfigError if a plain loop would continue rounds that a gate decides about."""
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
