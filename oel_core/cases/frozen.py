"""A round's frozen set of cases: a file that is written once before the round starts and identified by its digest."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from oel_core.cases.case import Case, Share
from oel_core.errors import ArtifactError
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import digest_file
from oel_core.seeds import derive_seed

CASES = "cases.jsonl"


def write_cases(path: Path, cases: Iterable[Case]) -> None:
    """Writes the set."""
    write_atomic(path, jsonl_bytes(cases))


def read_cases(path: Path, digest: str | None = None) -> list[Case]:
    """The cases of a set.

    Raises:
        ArtifactError: the file is missing or damaged, or its digest differs.
    """
    if digest is not None and path.is_file() and digest_file(path) != digest:
        raise ArtifactError(
            f"{path} was changed: its digest is {digest_file(path)}, not {digest}. Restore it from a copy"
        )
    return list(read_jsonl(path, Case))


def rotated(new: Sequence[Case], earlier: Sequence[Case], sessions: int) -> list[Case]:
    """The next round's set: the new cases, then earlier ones, newest first, up to `sessions` sessions per share.

    New cases are always included.
    """
    kept, counted = list(new), {(case.share, case.session) for case in new}
    for case in sorted(earlier, key=lambda case: -case.round):
        place = (case.share, case.session)
        room = sum(share == case.share for share, _ in counted) < sessions
        if place in counted or room:
            counted.add(place)
            kept.append(case)
    return kept


def one_a_session(cases: Sequence[Case], share: Share, most: int) -> list[Case]:
    """One case per session, chosen by a hash; newest sessions first, then in the order of a hash.

    Outcomes of one session's cases are correlated, so using several would overstate the significance of a comparison.
    """
    drawn: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: derive_seed("case", case.id)):
        if case.share == share:
            drawn.setdefault(case.session, case)
    return sorted(drawn.values(), key=lambda case: (-case.round, derive_seed("case", case.id)))[:most]
