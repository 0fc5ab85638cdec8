"""Copies of recorded conversations that stay where they are: cases, and bundles that left the project."""

from collections.abc import Collection, Iterator
from pathlib import Path

from oel_core.bundles.archive import opened, sha256_of
from oel_core.bundles.records import MADE, MANIFEST, MadeBundle
from oel_core.cases.case import Case
from oel_core.cases.frozen import CASES
from oel_core.errors import ArtifactError
from oel_core.runs.folder import RunFolder, round_name
from oel_core.runs.jsonl import read_jsonl
from oel_core.types import Record


class CasesLeft(Record):
    """Cases in one round."""

    round: int
    ids: tuple[str, ...]


def cases_left(run: RunFolder, sessions: Collection[str]) -> list[CasesLeft]:
    """The cases that were made of these sessions, in every round whose set has them.

    Args:
        sessions: as cases name them: pseudonyms, or ids of episodes without a session.
    """
    found = []
    for index in run.rounds():
        path = run.path / round_name(index) / CASES
        if path.is_file():
            ids = tuple(case.id for case in read_jsonl(path, Case) if case.session in sessions)
            found += [CasesLeft(round=index, ids=ids)] if ids else []
    return found


def bundles_of(run: RunFolder, rounds: Collection[int]) -> Iterator[str]:
    """The bundles that were made of these rounds: files under the run root, and digests of the others."""
    made = {bundle.digest for index in sorted(rounds) for bundle in _made(run, index)}
    files = {
        path: digest for path in sorted(run.path.parent.rglob("*.zip")) if made if (digest := _digest(path)) in made
    }
    yield from map(str, files)
    yield from sorted(made - set(files.values()))


def _made(run: RunFolder, index: int) -> Iterator[MadeBundle]:
    path = run.path / round_name(index) / MADE
    if path.is_file():
        yield from read_jsonl(path, MadeBundle)


def _digest(path: Path) -> str:
    """Of a bundle; empty for another archive."""
    try:
        with opened(path) as archive:
            return sha256_of(archive, MANIFEST)
    except (ArtifactError, KeyError):
        return ""
