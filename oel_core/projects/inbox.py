"""The inbox: a folder of JSONL files to which the deployment writes its episodes, one `Trajectory` per line.

Files may be added and appended to, and feedback may follow (`oel_core.projects.deployment`). The offset read in each is
stored with the rounds that read it, so every episode is used once. The contents are untrusted: an invalid line is left
out and reported, and never stops a round. A last line without a line end is incomplete and read the next time.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from oel_core.config.operation import ExperienceConfig
from oel_core.config.run import CollectConfig, OelConfig
from oel_core.errors import ArtifactError
from oel_core.projects.deployment import late_feedback, rated_again
from oel_core.projects.quarantine import LeftOut
from oel_core.prompts.extraction.hindsight import reactions
from oel_core.rollouts.planning import EpisodePlan, episode_id
from oel_core.rounds.prompts import prompts_of
from oel_core.runs.jsonl import LineError, parse_line
from oel_core.seeds import derive_seed
from oel_core.types import INSTRUCTING, Message, Record, Split, Trajectory

INBOX, SOURCES = "inbox.jsonl", "sources.jsonl"
RESERVED = (Split.VALIDATION, Split.HELD_OUT)
_LEAST = 1e-300
"""In place of a random 0, which has no logarithm."""


class Received(Record):
    """A line of a round's `inbox.jsonl`: an episode of the inbox with its position there."""

    file: str
    """Name within the inbox."""
    line: int = Field(ge=1)
    episode: Trajectory


class EpisodeSource(Record):
    """A line of `sources.jsonl`: maps an episode of a round to an episode of the inbox."""

    id: str
    """Within the round."""
    source: str
    """Its id in the inbox, given by the deployment."""
    file: str
    line: int = Field(ge=1)


class ForgottenEpisode(Record):
    """What stands in place of an episode that was removed; whoever reads the inbox passes over it."""

    forgotten: Literal[True] = True
    id: str
    """Of the episode: whoever writes to the inbox looks for it there."""


@dataclass(frozen=True)
class NewExperience:
    """The part of an inbox that no round has read yet."""

    received: list[Received]
    left_out: list[LeftOut]
    """One for each unusable line."""
    read_to: dict[str, int]
    """File → offset after this read, bytes."""
    rated_late: int = 0
    """Received episodes that got feedback after they were written down."""


Require = Callable[[Trajectory], None]
"""Raises LineError for an unusable episode."""


def accept_all(episode: Trajectory) -> None:
    """The default `require`: accepts every valid episode."""


def _is_forgotten(line: bytes) -> bool:
    try:
        return line.startswith(b'{"forgotten"') and parse_line(line, ForgottenEpisode).forgotten
    except LineError:
        return False


def new_experience(folder: Path, read_to: Mapping[str, int], env: str, require: Require = accept_all) -> NewExperience:
    """Everything after the offsets `read_to`, files by name, lines in order.

    `require` adds conditions to those of every episode: valid, of this environment, and permitted for training.

    Raises:
        ArtifactError: there is no such folder, a file cannot be read, or one is shorter than its offset.
    """
    if not folder.is_dir():
        raise ArtifactError(f"experience.inbox: {folder} is not a folder: make it, or set experience.inbox to null")
    found = NewExperience([], [], dict(read_to))
    for path in sorted(folder.glob("*.jsonl")):
        try:
            _read(path, env, require, found)
        except OSError as error:
            raise ArtifactError(
                f"{path} cannot be read ({error.strerror}): let the worker read it, or take it out of the inbox"
            ) from error
    return found


def _read(path: Path, env: str, require: Require, found: NewExperience) -> None:
    name = path.name.encode(errors="backslashreplace").decode()
    begin = found.read_to.get(name, 0)
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
            if _is_forgotten(line):
                continue
            _take(line, name, number, env, require, found)
    found.read_to[name] = begin


def _take(line: bytes, file: str, number: int, env: str, require: Require, found: NewExperience) -> None:
    try:
        episode = parse_line(line, Trajectory)
        require_usable(episode, env)
        require(episode)
    except LineError as error:
        reason, _, _ = error.reason.partition(" at line 1 column ")  # equal reasons are counted together
        text = line.decode(errors="backslashreplace").removesuffix("\n")
        found.left_out.append(LeftOut(file=file, line=number, field=error.field, reason=reason, text=text))
    else:
        found.received.append(Received(file=file, line=number, episode=episode))


def require_usable(episode: Trajectory, env: str) -> None:
    """Raises LineError for a valid episode that must not, or cannot, be trained on."""
    if episode.env != env:
        raise LineError("env", f"it was played in '{episode.env}', not in '{env}'")
    if episode.split in RESERVED:
        raise LineError("split", f"{episode.split.value} is for measuring, not for learning")
    if episode.knowledge_digest is not None:
        raise LineError("knowledge_digest", "its policy was shown knowledge, so its prompts are not the student's")
    if not episode.turns:
        raise LineError("turns", "it has no turns")
    for number, turn in enumerate(episode.turns):
        problem = not_a_prompt(turn.messages)
        if problem:
            raise LineError(f"turns.{number}.messages", problem)


def not_a_prompt(messages: Sequence[Message]) -> str | None:
    """Why messages are not a valid prompt for chat templates (system first, user last), or None."""
    if messages[0].role == "assistant":
        return "the first message is the assistant's: a prompt begins with the system or the user"
    if messages[-1].role not in ("user", "tool"):
        return f"the last message is the {messages[-1].role}'s: the assistant answers a user or a tool"
    if any(message.role in INSTRUCTING for message in messages[1:]):
        return "a system message that is not the first one"
    return None


def assign_episodes(
    config: OelConfig, received: Sequence[Received], round_index: int
) -> list[tuple[Trajectory, EpisodeSource]]:
    """Assigns the inbox's episodes to the round: each with its new split, replica and index, and its source.

    A share is used for extraction, the prompts of the others, or of all, for distillation. Where there are fewer than
    configured, replicas share episodes and prompts are repeated, each time in another order.

    Raises:
        ArtifactError: no episode for distillation has a prompt of a turn that is distilled.
    """
    rng = random.Random(derive_seed("inbox", config.seed, round_index))
    cut = min(max(1, round(len(received) * config.experience.extract_share)), len(received) - 1)
    rates = [told(each.episode) * math.log(config.experience.rated_weight) for each in received]
    read = _draw(range(len(received)), cut, rates, rng)
    dealt = []
    for replica, hand in enumerate(_hands(read, config.collect, rates, rng)):
        dealt += [
            _renamed(received[place], Split.EXTRACT, round_index, replica, index) for index, place in enumerate(hand)
        ]
    wanted = config.distill.steps * config.distill.episodes_per_step
    again = _repeated(_distillable(config.experience, received, read), wanted, rng)
    return dealt + [_renamed(each, Split.DISTILL, round_index, 0, index) for index, each in enumerate(again)]


def _distillable(config: ExperienceConfig, received: Sequence[Received], read: Sequence[int]) -> list[Received]:
    """The episodes whose prompts are distilled; `read` are the places of those for extraction."""
    taken = set() if config.distill_sessions == "all" else set(read)
    sessions = [each for place, each in enumerate(received) if place not in taken]
    chosen = [each for each in sessions if prompts_of(each.episode, config.distill_turns)]
    if not chosen:
        raise ArtifactError(
            f"none of the {len(sessions)} episodes for distillation has a turn to distil on: collect feedback on "
            "answers, or set experience.distill_turns to all"
        )
    return chosen


def _hands(pool: Sequence[int], config: CollectConfig, rates: Sequence[float], rng: random.Random) -> list[list[int]]:
    """The episodes of each replica. Drawn by weight, but in random order, so that replicas and places are alike."""
    replicas, size = config.replicas, config.extraction_episodes
    if len(pool) < replicas * size:
        return [_draw(pool, size, rates, rng) for _ in range(replicas)]
    drawn = _draw(pool, replicas * size, rates, rng)
    return [drawn[replica * size : (replica + 1) * size] for replica in range(replicas)]


def _draw(pool: Sequence[int], count: int, rates: Sequence[float], rng: random.Random) -> list[int]:
    """`count` of them, or all, in random order: drawn without replacement, each time in proportion to the weights.

    By the smallest of exponential variables with these rates (Efraimidis and Spirakis, 2006), compared as logarithms.

    Args:
        pool: places of episodes.
        rates: logarithm of the weight of the episode at each place.
    """
    keys = {place: math.log(max(rng.expovariate(1.0), _LEAST)) - rates[place] for place in pool}
    drawn = sorted(pool, key=keys.__getitem__)[:count]
    rng.shuffle(drawn)
    return drawn


def told(episode: Trajectory) -> int:
    """How much people said of an episode's answers: 0 nothing, 1 whether they were right, 2 more than that."""
    given = [feedback for turn in episode.turns for feedback in turn.given if feedback.rates]
    if any(feedback.comment or feedback.correction or feedback.expected for feedback in given):
        return 2
    return int(bool(given) or any(one.rejects for one in reactions(episode)))


def _repeated(pool: list[Received], count: int, rng: random.Random) -> list[Received]:
    chosen: list[Received] = []
    while len(chosen) < count:
        chosen += rng.sample(pool, len(pool))
    return chosen[:count]


def _renamed(
    each: Received, split: Split, round_index: int, replica: int, index: int
) -> tuple[Trajectory, EpisodeSource]:
    id = episode_id(split, round_index, replica, index)
    plan = EpisodePlan(id, each.episode.seed, split, round_index, replica, index)
    source = EpisodeSource(id=id, source=each.episode.id, file=each.file, line=each.line)
    return each.episode.model_copy(update=plan.coordinates()), source


def recorded(inbox: Path) -> Iterator[Trajectory]:
    """All episodes of an inbox, read or not, with late feedback. Lines that are none are left out: rounds put them into
    the quarantine."""
    late = late_feedback(inbox)
    for path in sorted(inbox.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                try:
                    yield rated_again(parse_line(line, Trajectory), late)
                except LineError:
                    continue
