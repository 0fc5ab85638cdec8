"""Select: scores every knowledge file in context on validation episodes and chooses the files to distil.

The folder holds `scores.json`, the episodes, and a copy of each chosen knowledge file with its score in the sidecar.
The files of `accumulate` are not modified. A judge that was not shown to agree with people chooses nothing: all files
are distilled then.
"""

from pathlib import Path

from oel_core.errors import ConfigError
from oel_core.evaluation.validation import Candidate, candidate
from oel_core.knowledge.selection import Choice, Scored, choose, everyone, with_text
from oel_core.knowledge.selection_records import SCORES, FileScore, Score, Selection
from oel_core.knowledge.store import write_knowledge
from oel_core.rounds.context import DEFAULT_CONTEXT, EPISODES, StageContext
from oel_core.rounds.knowledge import MERGED_SECTIONS
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import Manifest
from oel_core.stages.scoring import choosing_sections, score_candidates, scoring_inputs, unreliable
from oel_core.types import Knowledge

STAGE = "select"
SECTIONS = (*MERGED_SECTIONS, "knowledge.selection", "knowledge.injection")


def select(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Scores the files with the start policy. Empty files are not chosen, unless all are empty.

    Raises:
        ConfigError: `knowledge.selection.use` is `all`, or the world has no validation episodes.
        ArtifactError: the knowledge is missing or corrupt, or the stage was made with other settings.
    """
    config, settings = round.config, round.config.knowledge.selection
    if settings.use == "all":
        raise ConfigError("knowledge.selection.use is all: there is nothing to select")
    inputs = {"policy": round.start_digest(), "knowledge": round.merged_stage().digest()}

    def work(folder: Path) -> dict[str, float]:
        knowledge = round.merged_knowledge()
        policy = round.start_policy(context)
        candidates = {entry.replica: candidate(entry) for entry in knowledge}
        everything = [Candidate("none", 0, ""), *candidates.values()]
        path = folder / EPISODES
        scores, layouts = score_candidates(round, policy, everything, settings.episodes, path, context.on_progress)
        rated = {replica: scores[found.label] for replica, found in candidates.items()}
        scored = [Scored(e.replica, rated[e.replica].pass_rate, e.tokens) for e in with_text(knowledge)]
        undecided = unreliable(round)
        choice = choose(scored, settings) if not undecided else everyone(scored)
        selection = Selection(
            use=settings.use,
            undecided=undecided,
            layouts=layouts,
            without=scores["none"],
            files=tuple(_file_score(entry, rated[entry.replica], choice) for entry in knowledge),
        )
        for entry in knowledge:
            if entry.replica in choice.replicas:
                score = rated[entry.replica].pass_rate
                write_knowledge(folder, entry.replica, entry.model_copy(update={"validation_score": score}))
        write_atomic(folder / SCORES, (selection.model_dump_json(indent=1) + "\n").encode())
        return _counts(selection)

    return round.perform(STAGE, (*choosing_sections(config), *SECTIONS), inputs | scoring_inputs(round), work)


def _file_score(knowledge: Knowledge, score: Score, choice: Choice) -> FileScore:
    chosen = knowledge.replica in choice.replicas
    weight = 0.0
    if chosen:
        position = choice.replicas.index(knowledge.replica)
        weight = choice.weights[position] if choice.weights else 1 / len(choice.replicas)
    return FileScore(
        replica=knowledge.replica, tokens=knowledge.tokens, score=score, chosen=chosen, weight=round(weight, 12)
    )


def _counts(selection: Selection) -> dict[str, float]:
    rates = [file.score.pass_rate for file in selection.files]
    chosen = [file.score.pass_rate for file in selection.chosen]
    return {
        "files": len(rates),
        "chosen": len(chosen),
        "layouts": selection.layouts,
        "without_knowledge": selection.without.pass_rate,
        "score_mean": sum(rates) / len(rates),
        "score_best": max(rates),
        "score_worst": min(rates),
        "score_chosen": sum(chosen) / len(chosen),
    }
