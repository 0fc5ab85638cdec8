"""Review: applies a reviewer's decision to the knowledge files that are distilled.

The folder holds `review.json` (the decision with its author) and every knowledge file without the dropped items. The
files of `accumulate` are not modified.
"""

from pathlib import Path

from oel_core.errors import ExtractionError, UndecidedError
from oel_core.knowledge.store import load_knowledge, render, write_knowledge
from oel_core.policies.base import Policy
from oel_core.projects.review import Decision, decision_of, review_list
from oel_core.rounds.context import DEFAULT_CONTEXT, StageContext
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import Manifest
from oel_core.runs.round_start import read_start
from oel_core.stages.accumulate import STAGE as ACCUMULATE
from oel_core.types import ExperienceItem, Knowledge

STAGE, REVIEW = "review", "review.json"
SECTIONS = ("collect.replicas", "knowledge.allow_empty", "review.mode")


def review(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Applies the reviewer's decision about the round.

    Raises:
        UndecidedError: there is no decision yet.
        ExtractionError: the knowledge was rejected, or no file has any items left.
        ArtifactError: the knowledge is missing or corrupt, or the stage was made with other knowledge.
    """
    config = round.config

    def work(folder: Path) -> dict[str, float]:
        decision = _approved(round)
        items = review_list(round).items
        dropped = set(decision.dropped)
        if items and dropped >= {entry.number for entry in items} and not config.knowledge.allow_empty:
            raise ExtractionError(
                f"round {round.number}: the review left nothing of the knowledge: drop fewer items, reject the round, "
                "or set knowledge.allow_empty=true"
            )
        policy = round.start_policy(context)
        for replica in range(config.collect.replicas):
            kept = [entry.item for entry in items if entry.replica == replica and entry.number not in dropped]
            before = load_knowledge(round.stage(ACCUMULATE).path, replica)
            write_knowledge(folder, replica, _edited(before, tuple(kept), policy))
        write_atomic(folder / REVIEW, (decision.model_dump_json(indent=1) + "\n").encode())
        return {"items": len(items), "dropped": len(dropped)}

    return round.perform(STAGE, SECTIONS, {"knowledge": round.stage(ACCUMULATE).digest()}, work)


def _approved(round: Round) -> Decision:
    decision, run = decision_of(round), round.run
    if decision is None:
        raise UndecidedError(
            f"round {round.number} of {run.name} waits for review: look at it with `oel review {run.name}`, decide "
            f"with --approve or --reject, and run again"
        )
    if decision.decision == "reject":
        again = (
            "The next trigger begins another round"
            if read_start(run, round.number) is not None
            else f"Decide again with `oel review {run.name} --approve`, with --drop for what is wrong, and run again"
        )
        raise ExtractionError(
            f"round {round.number} of {run.name}: its knowledge was rejected by {decision.author}"
            + (f" ({decision.note})" if decision.note else "")
            + f". {again}"
        )
    return decision


def _edited(before: Knowledge, items: tuple[ExperienceItem, ...], policy: Policy) -> Knowledge:
    if items == before.items:
        return before
    text = render(items)
    tokens = policy.count_tokens(text) if text else 0
    return before.model_copy(update={"items": items, "text": text, "tokens": tokens, "validation_score": None})
