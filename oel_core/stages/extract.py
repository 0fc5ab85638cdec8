"""Extract: the round's start policy reads every replica's episodes and writes experience items.

Replicas are read side by side, each into a folder of its own. Its `raw.jsonl` (one line an episode, written as it is
answered) is enough to go on after a kill; `items.jsonl` and `sizes.json` are derived from it at the end.
"""

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from oel_core.config.run import ExtractConfig, OelConfig
from oel_core.knowledge.extraction import ExtractionResult, RawOutput, extract_replicas
from oel_core.knowledge.extraction_records import Dropped
from oel_core.rounds.context import (
    DEFAULT_CONTEXT,
    StageContext,
    load_trajectories,
    start_digest,
)
from oel_core.rounds.knowledge import previous_input, previous_knowledge
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, replica_name, stage_key
from oel_core.runs.jsonl import JsonlWriter, jsonl_bytes, recover_jsonl
from oel_core.runs.manifest import Manifest
from oel_core.types import Record, Split, Trajectory

SECTIONS = (
    "seed",
    "model",
    "collect.extraction_episodes",
    "collect.replicas",
    "extract",
    "knowledge.max_tokens",
    "knowledge.carry_over",
    "knowledge.hygiene",
)
STAGE = "extract"
ITEMS, RAW, SIZES = "items.jsonl", "raw.jsonl", "sizes.json"


class KnowledgeSizes(Record):
    """`sizes.json`: how a replica's knowledge grew, to see where it saturates."""

    tokens: tuple[int, ...]
    """Tokens of the knowledge after each episode."""
    used_tokens: int
    """After the episodes whose items are used."""


def replica_path(run: RunFolder, round_index: int, replica: int) -> Path:
    """Where what was read from a replica's episodes lies once the stage has finished."""
    return run.stage_path(round_index, STAGE) / replica_name(replica)


def extract(config: OelConfig, run: RunFolder, round_index: int, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Reads each replica's N episodes in order.

    Raises:
        ArtifactError: the collected episodes are missing or corrupt, or the stage was made with other settings.
        ExtractionError: the policy could not answer to a single episode of a replica.
    """
    inputs = {
        "policy": start_digest(config, run, round_index),
        "collect": run.manifest(round_index, "collect").digest,
        **previous_input(config, run, round_index),
    }
    key = stage_key(config, round_index, STAGE, SECTIONS, inputs)
    replicas = range(config.collect.replicas)

    def work(folder: Path) -> dict[str, float]:
        episodes = _by_replica(load_trajectories(run, round_index, Split.EXTRACT))
        done = {replica: recover_jsonl(_raw(folder, replica), RawOutput) for replica in replicas}
        known = {replica: previous_knowledge(config, run, round_index, replica) for replica in replicas}
        read, total = sum(map(len, done.values())), sum(map(len, episodes.values()))
        policy = context.start_policy(config, run, round_index)
        with ExitStack() as open_files:
            writers = {replica: open_files.enter_context(JsonlWriter(_raw(folder, replica))) for replica in replicas}

            def on_row(replica: int, row: RawOutput) -> None:
                nonlocal read
                writers[replica].append(row)
                read += 1
                context.on_progress(read, total)

            results = extract_replicas(
                policy,
                {replica: episodes[replica] for replica in replicas},
                _within(config.extract, min(map(len, episodes.values()))),
                previous={replica: knowledge for replica, knowledge in known.items() if knowledge is not None},
                cap=config.knowledge,
                round_index=round_index,
                seed=config.seed,
                done=done,
                on_row=on_row,
            )
        for replica, result in results.items():
            _write(folder / replica_name(replica), result)
        return _counts(list(results.values()))

    return run.perform(key, work)


def _within(config: ExtractConfig, episodes: int) -> ExtractConfig:
    """The same with no more episodes to use than a replica has: an inbox may hold fewer than a round asks for."""
    return config.model_copy(update={"use_after": min(config.use_after, episodes)}) if config.use_after else config


def _by_replica(episodes: list[Trajectory]) -> dict[int, list[Trajectory]]:
    found: dict[int, list[Trajectory]] = defaultdict(list)
    for episode in episodes:
        found[episode.replica].append(episode)
    return found


def _raw(folder: Path, replica: int) -> Path:
    return folder / replica_name(replica) / RAW


def _write(folder: Path, result: ExtractionResult) -> None:
    sizes = KnowledgeSizes(tokens=result.sizes, used_tokens=result.knowledge.tokens)
    write_atomic(folder / ITEMS, jsonl_bytes(result.items))
    write_atomic(folder / SIZES, sizes.model_dump_json().encode())


def _counts(results: list[ExtractionResult]) -> dict[str, float]:
    """Sums over the replicas."""
    return {
        "episodes": sum(len(result.raw) for result in results),
        "items": sum(len(result.items) for result in results),
        "empty_outputs": sum(result.empty_outputs for result in results),
        "failed": sum(result.failed for result in results),
        "skipped": sum(result.skipped for result in results),
        "truncated": sum(result.truncated for result in results),
        **{reason.value: sum(result.dropped(reason) for result in results) for reason in Dropped},
    }
