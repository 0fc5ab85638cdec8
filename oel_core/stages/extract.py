"""Extract: the round's start policy reads one replica's episodes and writes experience items.

`raw.jsonl` (one line an episode, written as it is answered) is enough to go on after a kill; `items.jsonl` and
`sizes.json` are derived from it at the end.
"""

from pathlib import Path

from oel_core.artifacts import RunFolder, replica_name, stage_key
from oel_core.config import OelConfig
from oel_core.extraction import ExtractionResult, RawOutput, extract_items
from oel_core.files import write_atomic
from oel_core.jsonl import JsonlWriter, jsonl_bytes, recover_jsonl
from oel_core.manifest import Manifest
from oel_core.stages.carried import previous_input, previous_knowledge
from oel_core.stages.common import (
    NOTHING,
    Given,
    load_trajectories,
    start_digest,
)
from oel_core.types import Record, Split

SECTIONS = (
    "seed",
    "model",
    "collect.extraction_episodes",
    "extract",
    "knowledge.max_tokens",
    "knowledge.carry_over",
    "knowledge.hygiene",
)
ITEMS, RAW, SIZES = "items.jsonl", "raw.jsonl", "sizes.json"


class KnowledgeSizes(Record):
    """`sizes.json`: how a replica's knowledge grew, to see where it saturates."""

    tokens: tuple[int, ...]
    """Tokens of the knowledge after each episode."""
    used_tokens: int
    """After the episodes whose items are used."""


def stage_name(replica: int) -> str:
    return f"extract/{replica_name(replica)}"


def extract(config: OelConfig, run: RunFolder, round_index: int, replica: int, given: Given = NOTHING) -> Manifest:
    """Reads the replica's N episodes in order.

    Raises:
        ArtifactError: the collected episodes are missing or corrupt, or the stage was made with other settings.
        ExtractionError: the policy could not answer to a single episode.
    """
    inputs = {
        "policy": start_digest(config, run, round_index),
        "collect": run.manifest(round_index, "collect").digest,
        **previous_input(config, run, round_index),
    }
    key = stage_key(config, round_index, stage_name(replica), SECTIONS, inputs)

    def work(folder: Path) -> dict[str, float]:
        episodes = [t for t in load_trajectories(run, round_index, Split.EXTRACT) if t.replica == replica]
        rows = recover_jsonl(folder / RAW, RawOutput)
        policy = given.start_policy(config, run, round_index)
        with JsonlWriter(folder / RAW) as writer:

            def on_row(row: RawOutput) -> None:
                writer.append(row)
                rows.append(row)
                given.on_progress(len(rows), len(episodes))

            result = extract_items(
                policy,
                episodes,
                config.extract,
                previous=previous_knowledge(config, run, round_index, replica),
                cap=config.knowledge,
                round_index=round_index,
                replica=replica,
                seed=config.seed,
                done=tuple(rows),
                on_row=on_row,
            )
        return _write(folder, result)

    return run.perform(key, work)


def _write(folder: Path, result: ExtractionResult) -> dict[str, float]:
    sizes = KnowledgeSizes(tokens=result.sizes, used_tokens=result.knowledge.tokens)
    write_atomic(folder / ITEMS, jsonl_bytes(result.items))
    write_atomic(folder / SIZES, sizes.model_dump_json().encode())
    return {
        "episodes": len(result.raw),
        "items": len(result.items),
        "empty_outputs": result.empty_outputs,
        "failed": result.failed,
        "skipped": result.skipped,
        "truncated": result.truncated,
        "knowledge_tokens": result.knowledge.tokens,
    }
