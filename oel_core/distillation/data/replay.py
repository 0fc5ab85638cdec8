"""Replayed general prompts, added to each step to limit forgetting."""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from pydantic import Field

from oel_core.config.distill import ReplayConfig
from oel_core.distillation.data.dataset import Encode, Sample, Step
from oel_core.errors import ArtifactError, DistillationError
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import digest_bytes
from oel_core.seeds import derive_seed
from oel_core.types import Message, Record

SHIPPED = Path(__file__).parent / "replays"
"""Folder of the shipped files, NAME.jsonl."""


class ReplayPrompt(Record):
    """One line of the replay file."""

    messages: tuple[Message, ...] = Field(min_length=1)


NO_KNOWLEDGE = -1
"""`knowledge_index` and `replica` of a replayed prompt."""


def add_replay(
    steps: Sequence[Step], replay: ReplayConfig, encode: Encode, max_prompt_tokens: int, *, seed: int
) -> list[Step]:
    """Samples prompts of the replay file for each step.

    Args:
        steps: without replayed prompts.
        replay: path of the file and prompts per step.
        encode: chat messages to token ids.
        max_prompt_tokens: maximum prompt length, tokens.
        seed: of the sampled prompts and of their responses.

    Raises:
        ArtifactError: the file is missing, or a line of it is corrupt.
        DistillationError: it is empty, or a prompt leaves no room for a response.
    """
    prompts = _encoded(replay, encode, max_prompt_tokens)
    return [replace(step, replay=_draw(step.number, prompts, replay.prompts_per_step, seed)) for step in steps]


def replay_file(replay: ReplayConfig) -> Path:
    """The file that `path` names: one of the shipped ones, or its own."""
    shipped = SHIPPED / f"{replay.path}.jsonl"
    return shipped if replay.path in shipped_replays() else Path(replay.path)


def shipped_replays() -> list[str]:
    """Names of the shipped files, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.jsonl"))


def digest_replay(replay: ReplayConfig) -> str:
    """Digest of the file's bytes. ArtifactError when it cannot be read."""
    try:
        return digest_bytes(replay_file(replay).read_bytes())
    except OSError as error:
        raise ArtifactError(f"distill.retention.replay.path: {replay.path} cannot be read ({error})") from error


def read_replay(replay: ReplayConfig) -> list[ReplayPrompt]:
    """The file's prompts. ArtifactError when it is missing or a line is corrupt, DistillationError when it is empty."""
    path = replay_file(replay)
    if not path.is_file():
        raise ArtifactError(
            f"distill.retention.replay.path: {path} cannot be read: there is no such file, and the names of shipped "
            f"files are {', '.join(shipped_replays())}"
        )
    prompts = list(read_jsonl(path, ReplayPrompt))
    if not prompts:
        raise DistillationError(f"{path} holds no prompts: fill it, or set distill.retention.replay to null")
    return prompts


def _encoded(replay: ReplayConfig, encode: Encode, max_prompt_tokens: int) -> list[Sequence[int]]:
    prompts: list[Sequence[int]] = []
    for number, entry in enumerate(read_replay(replay), start=1):
        ids = array("i", encode(entry.messages))
        if len(ids) > max_prompt_tokens:
            raise DistillationError(
                f"{replay.path}:{number}: this prompt is {len(ids) - max_prompt_tokens} tokens over the "
                f"{max_prompt_tokens} that leave room for a response: shorten it, raise model.max_length or lower "
                "distill.max_response_tokens"
            )
        prompts.append(ids)
    return prompts


def _draw(step: int, prompts: Sequence[Sequence[int]], count: int, seed: int) -> tuple[Sample, ...]:
    random = Random(derive_seed(seed, "replay", step))
    whole, rest = divmod(count, len(prompts))
    chosen = [*(list(range(len(prompts))) * whole), *random.sample(range(len(prompts)), rest)]
    return tuple(
        Sample(
            id=f"replay/line{line + 1}",
            index=index,
            prompt=prompts[line],
            teacher_prompt=prompts[line],
            knowledge_index=NO_KNOWLEDGE,
            replica=NO_KNOWLEDGE,
            seed=derive_seed(seed, "replay response", step, index),
        )
        for index, line in enumerate(chosen)
    )
