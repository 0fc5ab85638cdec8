"""The inbox: a folder of JSONL files in which the deployment leaves its episodes, one `Trajectory` a line.

Files may be added and appended to. How far each was read is kept with the rounds that read it, so every episode is
used once. What is in there was written by others: a line that is no usable episode is left out and said so, it never
stops a round. A last line without its line end is still being written and waits for the next time.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from oel_core.config import OelConfig
from oel_core.errors import ArtifactError
from oel_core.planning import EpisodePlan
from oel_core.seeds import derive_seed
from oel_core.types import Record, Split, Trajectory

INBOX, SOURCES = "inbox.jsonl", "sources.jsonl"
RESERVED = (Split.VALIDATION, Split.HELD_OUT)


class EpisodeSource(Record):
    """A line of `sources.jsonl`: what the deployment called an episode that a round uses."""

    id: str
    """Within the round."""
    source: str
    """In the inbox."""


@dataclass(frozen=True)
class NewExperience:
    """What of an inbox no round has read yet."""

    episodes: list[Trajectory]
    left_out: list[str]
    """`file, line: why`, one for each line that is no usable episode."""
    read_to: dict[str, int]
    """File → its bytes that have been read now."""


def new_experience(folder: Path, read_to: Mapping[str, int], env: str) -> NewExperience:
    """Everything that was added after `read_to`, files by name, lines in order.

    Raises:
        ArtifactError: there is no such folder, or a file is shorter than what was read of it.
    """
    if not folder.is_dir():
        raise ArtifactError(f"experience.inbox: {folder} is not a folder: make it, or set experience.inbox to null")
    found = NewExperience([], [], dict(read_to))
    for path in sorted(folder.glob("*.jsonl")):
        _read(path, env, found)
    return found


def _read(path: Path, env: str, found: NewExperience) -> None:
    begin = found.read_to.get(path.name, 0)
    if path.stat().st_size < begin:
        raise ArtifactError(
            f"{path} is shorter than the {begin} bytes that earlier rounds have read of it: files of the inbox may "
            "grow but not change. Restore it, or put the new episodes into a new file"
        )
    with path.open("rb") as file:
        number = file.read(begin).count(b"\n")
        for line in file:
            number += 1
            if not line.endswith(b"\n"):
                break
            begin += len(line)
            _take(line, f"{path}, line {number}", env, found)
    found.read_to[path.name] = begin


def _take(line: bytes, where: str, env: str, found: NewExperience) -> None:
    try:
        episode = Trajectory.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        found.left_out.append(f"{where}: {'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}")
        return
    problem = _problem(episode, env)
    if problem:
        found.left_out.append(f"{where}: {problem}")
    else:
        found.episodes.append(episode)


def _problem(episode: Trajectory, env: str) -> str | None:
    if episode.env != env:
        return f"it was played in '{episode.env}', not in '{env}'"
    if episode.split in RESERVED:
        return f"split {episode.split.value} is for measuring, not for learning"
    if episode.knowledge_digest is not None:
        return "its policy was shown knowledge, so its prompts are not the student's"
    return None if episode.turns else "it has no turns"


def deal(config: OelConfig, episodes: Sequence[Trajectory], round_index: int) -> list[tuple[Trajectory, str]]:
    """The round's episodes made of the inbox's: each with its new coordinates, and the id it had.

    A share is read for knowledge and the others' prompts are distilled. Where there are fewer than the round asks
    for, replicas share episodes and prompts come again, each time in another order.
    """
    rng = random.Random(derive_seed("inbox", config.seed, round_index))
    pool = list(episodes)
    rng.shuffle(pool)
    cut = min(max(1, round(len(pool) * config.experience.extract_share)), len(pool) - 1)
    dealt = []
    for replica, hand in enumerate(
        _hands(pool[:cut], config.collect.replicas, config.collect.extraction_episodes, rng)
    ):
        dealt += [_renamed(each, Split.EXTRACT, round_index, replica, index) for index, each in enumerate(hand)]
    wanted = config.distill.steps * config.distill.episodes_per_step
    again = _repeated(pool[cut:], wanted, rng)
    return dealt + [_renamed(each, Split.DISTILL, round_index, 0, index) for index, each in enumerate(again)]


def _hands(pool: list[Trajectory], replicas: int, size: int, rng: random.Random) -> list[list[Trajectory]]:
    if len(pool) >= replicas * size:
        return [pool[replica * size : (replica + 1) * size] for replica in range(replicas)]
    return [rng.sample(pool, min(size, len(pool))) for _ in range(replicas)]


def _repeated(pool: list[Trajectory], count: int, rng: random.Random) -> list[Trajectory]:
    chosen: list[Trajectory] = []
    while len(chosen) < count:
        chosen += rng.sample(pool, len(pool))
    return chosen[:count]


def _renamed(episode: Trajectory, split: Split, round_index: int, replica: int, index: int) -> tuple[Trajectory, str]:
    id = f"r{round_index:02d}-{split.value}-k{replica:02d}-e{index:04d}"
    plan = EpisodePlan(id, episode.seed, split, round_index, replica, index)
    return episode.model_copy(update=plan.coordinates()), episode.id
