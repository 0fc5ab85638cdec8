"""What packing saves on the turns of episodes, whose prompts begin with all that came before.

    python -m tests.benchmarks.layouts

The same update, its knowledge kept, with the student reading padded rectangles, one row without padding, and one row in
which what prompts share is read once. All three give the same loss.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from oel_core.distillation.forward import prefix_tree
from tests.benchmarks.contender_ours import Ours
from tests.benchmarks.measure import Spread, machine, spread
from tests.benchmarks.report import DEFAULT_FOLDER, publish, table
from tests.benchmarks.workload import FIRST_WORD, Corpus, Text, Workload, save_workload_model

NAME = "layouts"
LAYOUTS = ("padded", "packed", "packed, prefixes shared")


@dataclass(frozen=True)
class Episodes:
    """Episodes of one game: instructions that all share, then an observation and a response a turn."""

    episodes: int = 8
    turns: int = 5
    instructions: int = 100
    observation: int = 60
    response: int = 64


@dataclass(frozen=True)
class LayoutRow:
    """One way to read."""

    layout: str
    seconds: Spread
    speedup: Spread
    """Over the padded one, of updates that took the same turn."""
    tokens: int
    """Positions that the student computes, padding included."""
    loss: float


def draw_turns(shape: Episodes, workload: Workload) -> Corpus:
    """Random tokens. A turn's prompt holds the collected responses of the turns before, its own response is new."""
    source = random.Random(workload.seed)

    def words(count: int) -> list[int]:
        return source.choices(range(FIRST_WORD, workload.shape.vocabulary), k=count)

    instructions, texts = words(shape.instructions), []
    for _ in range(shape.episodes):
        prompt = list(instructions)
        for _ in range(shape.turns):
            prompt = prompt + words(shape.observation)
            texts.append(Text(prompt, words(source.randint(shape.response // 2, shape.response)), 0))
            prompt = prompt + words(shape.response)
    return Corpus(tuple(texts), (words(workload.knowledge),))


def _positions(ours: Ours, layout: str) -> int:
    """Tokens that the student's batches hold."""
    batches = ours.student.micro_batches(ours.rollouts)
    if layout == "padded":
        return sum(len(batch) * max(one.length for one in batch) for batch in batches)
    read = [[prefix_tree.as_ids(one.sample.prompt, one.response) for one in batch] for batch in batches]
    total = 0
    for sequences in read:
        row = prefix_tree.PackedRow()
        row.add(sequences, 0)
        total += row.tokens
    return total


def measure(workload: Workload, shape: Episodes, repeats: int) -> list[LayoutRow]:
    """All layouts take turns; the first turn warms up."""
    with tempfile.TemporaryDirectory() as place:
        corpus = draw_turns(shape, workload)
        longest = max(len(text.prompt) + len(text.response) for text in corpus.texts)
        sized = replace(workload, samples=len(corpus.texts), prompt=longest, response=shape.response, files=1)
        save_workload_model(sized, Path(place))
        contenders = {layout: Ours(sized, corpus, Path(place), layout.partition(",")[0]) for layout in LAYOUTS}
        seconds: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
        losses, tokens = {}, {}
        for turn in range(repeats + 1):
            for layout, ours in contenders.items():
                with _sharing(layout):
                    losses.setdefault(layout, ours.gradient()[0])
                    tokens[layout] = _positions(ours, layout)
                    started = time.perf_counter()
                    ours.update()
                    if turn:
                        seconds[layout].append(time.perf_counter() - started)
    return [_row(layout, seconds, tokens[layout], losses[layout]) for layout in LAYOUTS]


def _row(layout: str, seconds: dict[str, list[float]], tokens: int, loss: float) -> LayoutRow:
    pairs = zip(seconds["padded"], seconds[layout], strict=True)
    return LayoutRow(layout, spread(seconds[layout]), spread([one / other for one, other in pairs]), tokens, loss)


@contextmanager
def _sharing(layout: str) -> Iterator[None]:
    """Inside it nothing is worth sharing, unless the layout is the one that shares."""
    worth = prefix_tree.WORTH_SHARING if layout.endswith("shared") else 10**9
    with patch.object(prefix_tree, "WORTH_SHARING", worth):
        yield


def run(workload: Workload, shape: Episodes, repeats: int, out: Path) -> list[LayoutRow]:
    """Measures, prints and writes."""
    rows = measure(workload, shape, repeats)
    cells = [[row.layout, row.seconds, row.speedup, row.tokens, f"{row.loss:.6f}"] for row in rows]
    columns = ["layout", "update s", "against padded", "positions", "loss"]
    publish(NAME, out, machine(workload.device), rows, table(columns, cells))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args(arguments)
    run(Workload(knowledge=512), Episodes(), options.repeats, options.out)


if __name__ == "__main__":
    main()
