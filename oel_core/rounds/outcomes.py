"""Reads the episodes of an evaluation; those of a compacted round have no texts.

Compaction (`oel_core.housekeeping.compacting`) replaces `episodes.jsonl` by `outcomes.jsonl`: the same records with
empty texts. Both have all that gates, reports and tables use: seeds, rewards, errors, ends, valid actions.
"""

from collections.abc import Iterator
from pathlib import Path

from oel_core.errors import ArtifactError
from oel_core.rounds.context import EPISODES
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import digest_file, freed_files, read_freed
from oel_core.types import Message, Trajectory

OUTCOMES = "outcomes.jsonl"
_EMPTY_PROMPT = (Message(role="user", content=""),)


def without_texts(episode: Trajectory) -> Trajectory:
    """The episode with empty texts and no token ids; an action that was valid stays one."""
    turns = tuple(
        turn.model_copy(
            update={
                "messages": _EMPTY_PROMPT,
                "response": "",
                "response_ids": (),
                "action": None if turn.action is None else "",
                "observation": "",
                "given": (),
            }
        )
        for turn in episode.turns
    )
    return episode.model_copy(update={"turns": turns, "intro": "", "feedback": "", "session": "", "user": ""})


def read_episodes(folder: Path) -> Iterator[Trajectory]:
    """The episodes of a finished evaluation, without texts where its round was compacted.

    Raises:
        ArtifactError: the file is missing, changed or damaged.
    """
    if EPISODES not in freed_files(folder):
        return read_jsonl(folder / EPISODES, Trajectory)
    path, freed = folder / OUTCOMES, read_freed(folder)
    if freed is None or not path.exists() or freed.left.get(OUTCOMES) != digest_file(path):
        raise ArtifactError(f"{path} is missing or was changed since `oel compact` wrote it: restore it from a copy")
    return read_jsonl(path, Trajectory)
