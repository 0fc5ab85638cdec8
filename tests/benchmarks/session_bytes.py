"""What one recorded conversation takes: bytes in the gateway's journal and in the inbox, and time of a processor.

    python -m tests.benchmarks.session_bytes --sessions 300

The texts are chains of words of the project's documents, which compress less than real prose. Times are of the
processor (`time.thread_time`), of one thread, without HTTP.
"""

import argparse
import gzip
import lzma
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from oel_core.imports.privacy import Masking
from oel_core.imports.records import Call
from oel_core.imports.stitching import conversation
from oel_core.runs.jsonl import read_jsonl
from oel_core.serving.recording.handover import Handover
from oel_core.serving.recording.journal import JOURNAL, Journal
from oel_core.types import Message, Trajectory

ROOT = Path(__file__).parent.parent.parent
TURNS = 4
SYSTEM, QUESTION, ANSWER = 600, 120, 400
"""Characters of the instructions, which all sessions share, of a user's message and of an answer."""
CHARACTERS_A_TOKEN = 4
VOCABULARY = 150_000


class Prose:
    """Endless text in which each word follows the one before it somewhere in the project's documents."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        words = " ".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))).split()
        self._after: dict[str, list[str]] = {}
        for one, other in pairwise([*words, words[0]]):
            self._after.setdefault(one, []).append(other)
        self._word = words[0]

    def some(self, characters: int) -> str:
        """A text of about so many characters."""
        text = ""
        while len(text) < characters:
            self._word = self._draw.choice(self._after[self._word])
            text += self._word + " "
        return text.strip()


def calls(number: int, system: str, prose: Prose, draw: random.Random | None) -> Iterator[Call]:
    """The requests of one conversation; with token ids if a generator is given."""
    messages: tuple[Message, ...] = (Message(role="system", content=system),)
    for turn in range(TURNS):
        messages += (Message(role="user", content=prose.some(QUESTION)),)
        answer = Message(role="assistant", content=prose.some(ANSWER))
        ids = [draw.randrange(VOCABULARY) for _ in range(ANSWER // CHARACTERS_A_TOKEN)] if draw else []
        yield Call(
            id=f"chatcmpl-{number:012x}{turn}",
            session=f"visit-{number:08d}",
            user=f"person-{number % 997:04d}",
            messages=messages,
            response=answer,
            model="shop-17-ff04d76828fb",
            at=1.8e9 + number,
            response_ids=tuple(ids),
        )
        messages += (answer,)


def timed(act: Callable[[], object]) -> float:
    """Seconds of this thread's processor time."""
    began = time.thread_time()
    act()
    return time.thread_time() - began


def in_use(folder: Path) -> int:
    """Bytes of the journal's pages that hold something; pages that are free are used again."""
    with closing(sqlite3.connect(folder / JOURNAL)) as database:
        values = [database.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count")]
        return int((values[0] - values[1]) * database.execute("pragma page_size").fetchone()[0])


def measured(folder: Path, sessions: int, ids: bool) -> dict[str, float]:
    """Bytes and milliseconds a session."""
    draw = random.Random(1)
    prose = Prose(draw)
    system = prose.some(SYSTEM)
    journal, masking = Journal.open(folder), Masking(b"salt")

    def record() -> None:
        for number in range(sessions):
            for call in calls(number, system, prose, draw if ids else None):
                with journal.transaction():
                    journal.add(masking.call(call), conversation(call), time.time() - 3600, private=False)

    recording = timed(record)
    found = {"open in the journal, bytes": float(in_use(folder))}
    handover = Handover(journal, folder, "recorded", 1.0)

    def hand_over() -> None:
        while handover.run(0):
            pass

    handing = timed(hand_over)
    journal.close()
    (inbox,) = folder.glob("served-*.jsonl")
    data = inbox.read_bytes()
    found["inbox, bytes"] = float(len(data))
    found["inbox, gzip"] = float(len(gzip.compress(data, 6)))
    found["inbox, xz"] = float(len(lzma.compress(data, preset=6)))
    found["ids left in the journal, bytes"] = float(in_use(folder))
    found["recording, ms"] = 1000 * recording
    found["handover, ms"] = 1000 * handing
    found["reading, ms"] = 1000 * timed(lambda: list(read_jsonl(inbox, Trajectory)))
    return {name: value / sessions for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=300)
    count = parser.parse_args().sessions
    print(f"{count} sessions of {TURNS} turns, a session:")
    for ids in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            for name, value in measured(Path(folder), count, ids).items():
                print(f"{'with token ids' if ids else 'texts only'}: {name}: {value:,.2f}")


if __name__ == "__main__":
    main()
