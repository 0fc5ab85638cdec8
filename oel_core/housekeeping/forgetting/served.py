"""Conversations that lie in the journal of `oel serve`, which may be running."""

import sqlite3
from pathlib import Path

from oel_core.errors import ArtifactError
from oel_core.housekeeping.forgetting.selection import Selection
from oel_core.serving.recording.journal import JOURNAL, Journal


def in_journal(inbox: Path, selection: Selection, *, remove: bool) -> int:
    """How many conversations the journal has that are not in the inbox yet.

    With `remove` these go, and so do ids and feedback of those that are in the inbox. A conversation that goes on
    afterwards is a new one.

    Raises:
        ArtifactError: the journal cannot be read or written.
    """
    if not (inbox / JOURNAL).exists():
        return 0
    journal = Journal.open(inbox)
    try:
        with journal.transaction():
            talks = [
                talk
                for talk in journal.people()
                if selection.matches({"session": talk.session, "user": talk.user, "at": talk.at})
            ]
            if remove:
                journal.forget(talk.number for talk in talks)
        journal.close()
    except sqlite3.Error as error:
        raise ArtifactError(
            f"{inbox / JOURNAL} cannot be read or written ({error}): run the same command again"
        ) from error
    return sum(not talk.landed for talk in talks)
