"""Receive: imports a bundle's knowledge and prompts instead of collecting and extracting.

For a bundle with knowledge only, the start model generates prompts; `synthesis.jsonl` (one line per generated text,
appended as it ends) suffices to resume after a kill.
"""

import logging
from collections import Counter
from pathlib import Path

from oel_core.bundles.reading import Bundle
from oel_core.bundles.received import bundle_of
from oel_core.bundles.records import BundleKnowledge
from oel_core.bundles.synthesis import WrittenPrompt, synthesise, usable_prompts
from oel_core.rounds.context import DEFAULT_CONTEXT, PROMPTS, StageContext
from oel_core.rounds.round import RECEIVE, Round
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import JsonlWriter, jsonl_bytes, recover_jsonl
from oel_core.runs.manifest import Manifest
from oel_core.types import PartialRollout

logger = logging.getLogger(__name__)
SYNTHESIS_SECTIONS = ("seed", "model", "experience.synthesis")
BUNDLE, KNOWLEDGE, SYNTHESIS = "bundle.json", "knowledge.jsonl", "synthesis.jsonl"


def receive(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Writes the bundle's manifest (`bundle.json`), `knowledge.jsonl` and `prompts.jsonl`.

    Raises:
        ConfigError, ArtifactError: as `bundle_of`; the bundle has other content than knowledge and prompts.
        ExtractionError: no generated prompt is usable.
    """
    bundle = bundle_of(round.config)
    written_here = not bundle.manifest.prompts
    sections = SYNTHESIS_SECTIONS if written_here else ()
    inputs = {"bundle": bundle.digest} | ({"policy": round.start_digest()} if written_here else {})
    if bundle.manifest.start_model != round.student_digest():
        logger.warning(
            "the bundle is for the model with the digest %s, and this round starts from %s with the digest %s: "
            "knowledge of another model helps less",
            *(bundle.manifest.start_model, round.student(), round.student_digest()),
        )
    return round.perform(RECEIVE, sections, inputs, lambda folder: _take_over(round, bundle, folder, context))


def _take_over(round: Round, bundle: Bundle, folder: Path, context: StageContext) -> dict[str, float]:
    knowledge, manifest = bundle.knowledge(), bundle.manifest
    write_atomic(folder / KNOWLEDGE, jsonl_bytes(knowledge))
    counts: dict[str, float] = {"replicas": manifest.replicas, "items": manifest.items, "episodes": manifest.episodes}
    if manifest.prompts:
        prompts = [
            PartialRollout(trajectory_id=f"e{prompt.episode:06d}", turn=prompt.turn, messages=prompt.messages)
            for prompt in bundle.prompts()
        ]
    else:
        rows = _written(round, knowledge, folder, context)
        prompts = usable_prompts(rows)
        unusable = Counter(row.unusable.value for row in rows if row.unusable is not None)
        counts |= {f"synthesis_{reason}": number for reason, number in unusable.items()}
    write_atomic(folder / PROMPTS, jsonl_bytes(prompts))
    write_atomic(folder / BUNDLE, (manifest.model_dump_json(indent=1) + "\n").encode())
    return counts | {"prompts": len(prompts)}


def _written(
    round: Round, knowledge: list[BundleKnowledge], folder: Path, context: StageContext
) -> list[WrittenPrompt]:
    config, done = round.config, recover_jsonl(folder / SYNTHESIS, WrittenPrompt)
    with JsonlWriter(folder / SYNTHESIS) as writer:

        def on_row(row: WrittenPrompt) -> None:
            writer.append(row)
            context.on_progress(row.number + 1, config.experience.synthesis.prompts)

        policy = round.start_policy(context)
        return synthesise(policy, knowledge, config.experience.synthesis, config.seed, done=done, on_row=on_row)
