"""Accumulate: writes each replica's knowledge file from the knowledge after its first `use_after` episodes.

`knowledge.source` replaces it by other texts (`oel_core.rounds.sources`), a bundle by its own.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from oel_core.bundles.received import bundle_source
from oel_core.bundles.records import BundleKnowledge, BundleManifest
from oel_core.errors import ExtractionError
from oel_core.knowledge.extraction_records import KnowledgeState
from oel_core.knowledge.hygiene import FlaggedItem
from oel_core.knowledge.store import write_knowledge
from oel_core.knowledge.support import count_support, with_support
from oel_core.policies.base import Policy
from oel_core.rounds.context import DEFAULT_CONTEXT, StageContext
from oel_core.rounds.revision import item_records_input, revised
from oel_core.rounds.round import RECEIVE, Round
from oel_core.rounds.sources import folder_digest, folder_source, raw_source
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import Manifest, read_record
from oel_core.stages.exchange.receive import BUNDLE, KNOWLEDGE
from oel_core.stages.extract import RAW, read_states, replica_path
from oel_core.stages.extract import STAGE as EXTRACTED
from oel_core.types import Knowledge

logger = logging.getLogger(__name__)
SECTIONS = (
    "collect",
    "extract.format",
    "extract.use_after",
    "extract.turns_shown",
    "knowledge.max_tokens",
    "knowledge.source.use",
    "knowledge.source.raw_max_tokens",
    "knowledge.carry_over",
    "knowledge.revision",
    "knowledge.allow_empty",
    "knowledge.hygiene",
    "model.path",
)
STAGE, FLAGGED = "accumulate", "flagged.jsonl"


def accumulate(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Writes `knowledge_KK.md` and `.json` for every replica.

    Empty files are counted, and left out of distillation. With `knowledge.revision` also `item_records.jsonl`: what the
    evidence says of every item. With hygiene also `flagged.jsonl`: findings in new items, their provenance, and whether
    the item was dropped.

    Raises:
        ExtractionError: every file is empty and `knowledge.allow_empty` is not set.
        ArtifactError: an extraction is missing or corrupt, or the stage was made with other settings.
    """
    config, replicas = round.config, round.config.collect.replicas

    def work(folder: Path) -> dict[str, float]:
        written: list[Knowledge] = []
        flagged: list[FlaggedItem] = []
        for knowledge, found in _sources(round, context, folder):
            written.append(knowledge)
            flagged += found
            write_knowledge(folder, knowledge.replica, knowledge)
            context.on_progress(len(written), replicas)
        _require_content(round, written)
        counts = _counts(written)
        if config.knowledge.hygiene.policy != "off":
            write_atomic(folder / FLAGGED, jsonl_bytes(flagged))
            counts |= {"flagged": len(flagged), "dropped_by_hygiene": sum(row.dropped for row in flagged)}
        return counts

    return round.perform(STAGE, SECTIONS, _inputs(round), work)


def _inputs(round: Round) -> dict[str, str]:
    source = round.config.knowledge.source.use
    if round.config.experience.bundle is not None:
        return {RECEIVE: round.stage(RECEIVE).digest()}
    if source == "raw":
        return {"collect": round.stage("collect").digest()}
    if source == "folder":
        return {"folder": folder_digest(round.config)}
    return {EXTRACTED: round.stage(EXTRACTED).digest(), **round.previous_input(), **item_records_input(round)}


def _sources(round: Round, context: StageContext, folder: Path) -> Iterator[tuple[Knowledge, list[FlaggedItem]]]:
    """Every replica's knowledge in order, with the findings in its new items."""
    source = round.config.knowledge.source.use
    if round.config.experience.bundle is not None:
        yield from _received(round, round.start_policy(context))
        return
    if source == "extracted":
        used = [states[: round.config.use_after + 1] for states in read_states(round).values()]
        for states, knowledge in zip(used, _extracted(round, used, context, folder), strict=True):
            yield knowledge, [item for state in states for item in state.flagged]
        return
    policy = round.start_policy(context)
    if source == "raw":
        for replica, episodes in round.extraction_episodes().items():
            yield raw_source(round, replica, episodes, policy), []
        return
    for replica in range(round.config.collect.replicas):
        yield folder_source(round, replica, policy)


def _extracted(
    round: Round, used: Sequence[Sequence[KnowledgeState]], context: StageContext, folder: Path
) -> list[Knowledge]:
    """Every replica's knowledge after its used episodes."""
    if round.config.knowledge.revision == "on":
        return revised(round, used, round.start_policy(context).count_tokens, folder)
    support = count_support(item for states in used for state in states for item in state.knowledge.items)
    return [with_support(states[-1].knowledge, support) for states in used]


def _received(round: Round, policy: Policy) -> Iterator[tuple[Knowledge, list[FlaggedItem]]]:
    folder = round.stage(RECEIVE).path
    model = read_record(folder / BUNDLE, BundleManifest).start_model
    for entry in read_jsonl(folder / KNOWLEDGE, BundleKnowledge):
        yield bundle_source(round, entry, model, policy)


def _require_content(round: Round, knowledge: list[Knowledge]) -> None:
    blank = [entry.replica for entry in knowledge if entry.blank]
    if not blank:
        return
    if len(blank) == len(knowledge) and not round.config.knowledge.allow_empty:
        raise ExtractionError(
            f"round {round.number}: all knowledge files ({len(blank)}) are empty. {_advice(round, blank[0])}, or set "
            "knowledge.allow_empty=true if distilling without knowledge is wanted"
        )
    logger.warning(
        "round %d: %d of %d knowledge files are empty (of replica %s)%s",
        *(round.number, len(blank), len(knowledge), ", ".join(map(str, blank))),
        "" if len(blank) == len(knowledge) else ": the others are distilled",
    )


def _advice(round: Round, replica: int) -> str:
    source = round.config.knowledge.source
    if round.config.experience.bundle is not None:
        return "Ask the bundle's maker for knowledge"
    if source.use == "raw":
        return f"No episode of it fits into {round.config.knowledge_cap} tokens: raise knowledge.source.raw_max_tokens"
    if source.use == "folder":
        return f"Look at its file in {source.folder}, and take another run's knowledge"
    raw = replica_path(round, replica) / RAW
    return f"See what the extractor wrote in {raw}; give it more episodes or another format"


def _counts(knowledge: list[Knowledge]) -> dict[str, float]:
    return {
        "replicas": len(knowledge),
        "items": sum(len(entry.items) for entry in knowledge),
        "tokens_mean": sum(entry.tokens for entry in knowledge) / len(knowledge),
        "tokens_max": max(entry.tokens for entry in knowledge),
        "dropped_over_cap": sum(entry.dropped_over_cap for entry in knowledge),
        "dropped_duplicates": sum(entry.dropped_duplicates for entry in knowledge),
        "empty": sum(entry.blank for entry in knowledge),
    }
