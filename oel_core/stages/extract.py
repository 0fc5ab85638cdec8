"""Extract: a model (`extract.model`) is prompted with every replica's episodes and generates experience items.

Replicas are processed in parallel, each with its own folder. `raw.jsonl` there (one line per episode, appended as it is
generated) suffices to resume after a kill; the other files are derived from it at the end. `states.jsonl` has the
screened and merged items, which later stages read.
"""

from contextlib import ExitStack
from pathlib import Path

from oel_core.config.run import ExtractConfig
from oel_core.envs import answer_shape, extraction_examples, extraction_task
from oel_core.knowledge.extraction import ExtractionResult, RawOutput, extract_replicas
from oel_core.knowledge.extraction_records import Dropped, KnowledgeState
from oel_core.rounds.context import DEFAULT_CONTEXT, StageContext
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import replica_name
from oel_core.runs.jsonl import JsonlWriter, jsonl_bytes, read_jsonl, recover_jsonl
from oel_core.runs.manifest import Manifest
from oel_core.types import Record

SECTIONS = (
    "seed",
    "model",
    "environment.name",
    "collect.extraction_episodes",
    "collect.replicas",
    "extract",
    "knowledge.max_tokens",
    "knowledge.carry_over",
    "knowledge.hygiene",
)
STAGE = "extract"
ITEMS, RAW, SIZES, STATES = "items.jsonl", "raw.jsonl", "sizes.json", "states.jsonl"


class KnowledgeSizes(Record):
    """`sizes.json`: size of a replica's knowledge by episode."""

    tokens: tuple[int, ...]
    """Tokens of the knowledge after each episode."""
    used_tokens: int
    """Tokens after the first `use_after` episodes."""


def replica_path(round: Round, replica: int) -> Path:
    """Folder of a replica's extraction in the finished stage."""
    return round.stage(STAGE).path / replica_name(replica)


def read_states(round: Round) -> dict[int, list[KnowledgeState]]:
    """Every replica's knowledge before its first episode and after each of them, screened and merged.

    Raises:
        ArtifactError: a file is missing or corrupt.
    """
    replicas = range(round.config.collect.replicas)
    return {replica: list(read_jsonl(replica_path(round, replica) / STATES, KnowledgeState)) for replica in replicas}


def extract(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Extracts items from each replica's N episodes in order.

    Raises:
        ArtifactError: the collected episodes are missing or corrupt, or the stage was made with other settings.
        ExtractionError: no episode of a replica yielded a completion.
    """
    inputs = {
        "policy": round.extractor_digest(),
        "collect": round.stage("collect").digest(),
        **round.previous_input(),
    }

    def work(folder: Path) -> dict[str, float]:
        results = _read_episodes(round, folder, context)
        for replica, result in results.items():
            _write(folder / replica_name(replica), result)
        return _counts(list(results.values()))

    return round.perform(STAGE, SECTIONS, inputs, work)


def _read_episodes(round: Round, folder: Path, context: StageContext) -> dict[int, ExtractionResult]:
    """Resumes from the rows in `folder`; appends every new row as it is generated."""
    config, episodes = round.config, round.extraction_episodes()
    done = {replica: recover_jsonl(_raw(folder, replica), RawOutput) for replica in episodes}
    read, total = sum(map(len, done.values())), sum(map(len, episodes.values()))
    with ExitStack() as open_files:
        writers = {replica: open_files.enter_context(JsonlWriter(_raw(folder, replica))) for replica in episodes}

        def on_row(replica: int, row: RawOutput) -> None:
            nonlocal read
            writers[replica].append(row)
            read += 1
            context.on_progress(read, total)

        return extract_replicas(
            context.policy(round.extractor(), config.model, config.runner),
            episodes,
            _within(config.extract, min(map(len, episodes.values()))),
            task=extraction_task(config),
            examples=extraction_examples(config),
            shape=answer_shape(config),
            previous=round.previous_knowledge(),
            cap=config.knowledge,
            round_index=round.number,
            seed=config.seed,
            done=done,
            on_row=on_row,
        )


def _within(config: ExtractConfig, episodes: int) -> ExtractConfig:
    """The configuration with `use_after` capped at the available episodes: an inbox may hold fewer than configured."""
    return config.model_copy(update={"use_after": min(config.use_after, episodes)}) if config.use_after else config


def _raw(folder: Path, replica: int) -> Path:
    return folder / replica_name(replica) / RAW


def _write(folder: Path, result: ExtractionResult) -> None:
    sizes = KnowledgeSizes(tokens=result.sizes, used_tokens=result.knowledge.tokens)
    write_atomic(folder / ITEMS, jsonl_bytes(result.items))
    write_atomic(folder / STATES, jsonl_bytes(result.states))
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
        "rejected_items": sum(result.rejected for result in results),
        **{reason.value: sum(result.dropped(reason) for result in results) for reason in Dropped},
    }
