"""`forget_in_inbox` and `forget_in_run` remove recorded conversations from one folder, under its lock."""

from pathlib import Path

from pydantic import Field

from oel_core.errors import ArtifactError
from oel_core.housekeeping.forgetting.copies import CasesLeft, bundles_of, cases_left
from oel_core.housekeeping.forgetting.erasure import erase, finish
from oel_core.housekeeping.forgetting.provenance import LearnedItem, dependent_rounds, learned_items
from oel_core.housekeeping.forgetting.search import Found, in_inbox, in_run
from oel_core.housekeeping.forgetting.selection import Selection
from oel_core.housekeeping.forgetting.served import in_journal
from oel_core.imports.importing import LOCK
from oel_core.projects.round_cases import retire_cases
from oel_core.projects.triggers import open_round
from oel_core.runs.folder import RunFolder
from oel_core.runs.locks import exclusive
from oel_core.types import Record


class Report(Record):
    """The conversations found in one folder."""

    folder: str
    episodes: int
    copies: int
    """Copies of quarantined lines."""
    undated: int
    """Episodes without a time, which are kept."""
    items: tuple[LearnedItem, ...] = ()
    models: tuple[int, ...] = ()
    """Rounds whose models were trained on them; the models are kept."""
    open: int = 0
    """Conversations that `oel serve` has not handed over to the inbox yet."""
    cases: tuple[CasesLeft, ...] = ()
    """Cases made of them, which stay in the rounds that were measured on them; no later round is."""
    bundles: tuple[str, ...] = ()
    """Bundles of rounds that have them, by file or digest."""
    transcripts: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    """Round → ids of the episodes and cases whose transcripts MLflow may have."""

    @property
    def found(self) -> bool:
        """There is something to say."""
        return bool(self.episodes or self.copies or self.undated or self.open or self.cases)


def forget_in_inbox(inbox: Path, selection: Selection, *, remove: bool) -> Report:
    """Finds the conversations in an inbox and, with `remove`, removes them.

    Raises:
        ArtifactError: there is no such folder, or a file cannot be written.
        BusyError: an import writes into it.
    """
    if not inbox.is_dir():
        raise ArtifactError(f"{inbox} is not a folder: name an inbox")
    with exclusive(inbox / LOCK):
        finish(inbox)
        open_talks = in_journal(inbox, selection, remove=remove)  # first: what is handed over meanwhile is found below
        found = in_inbox(inbox, selection)
        if remove:
            erase(inbox, found.edits, found.episodes)
    return _report(inbox, found).model_copy(update={"open": open_talks})


def forget_in_run(run: RunFolder, selection: Selection, *, remove: bool) -> Report:
    """Finds the conversations in a run's rounds and, with `remove`, removes them.

    Raises:
        ArtifactError: a round that has them is open, or a file cannot be read or written.
        BusyError: another process works on the run.
    """
    with run.leased("oel forget"):
        finish(run.path)
        found = in_run(run, selection)
        items = learned_items(run, {id for ids in found.ids.values() for id in ids}) if found.ids else []
        models = dependent_rounds(run, found.ids, items)
        cases = cases_left(run, found.sessions | selection.ids)
        if remove and found.edits:
            index = open_round(run)
            if index is not None:
                raise ArtifactError(
                    f"round {index} of {run.path} is open and may still learn from them: let it finish, or end it with "
                    f"`oel abandon {run.name} {index}`, and run the same command again"
                )
            erase(run.path, found.edits, found.episodes)
        if remove:
            retire_cases(run, [id for one in cases for id in one.ids])
    shown = {index: tuple(sorted(ids)) for index, ids in found.ids.items()}
    for one in cases:
        shown[one.round] = (*shown.get(one.round, ()), *one.ids)
    return _report(run.path, found).model_copy(
        update={
            "items": tuple(items),
            "models": tuple(models),
            "cases": tuple(cases),
            "bundles": tuple(bundles_of(run, found.ids)),
            "transcripts": shown,
        }
    )


def _report(folder: Path, found: Found) -> Report:
    copies = len(found.edits) - found.episodes
    return Report(folder=str(folder), episodes=found.episodes, copies=copies, undated=found.undated)
