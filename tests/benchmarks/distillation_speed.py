"""Our update against TRL's SDFTTrainer on the same samples, with the floor and the exactness in the same run.

    python -m tests.benchmarks.distillation_speed

Contenders take turns, so that a machine that slows down slows all of them.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tests.benchmarks.contender import Update
from tests.benchmarks.contender_ours import Ours
from tests.benchmarks.contender_sdft import Sdft
from tests.benchmarks.floor import floor_seconds, floor_seconds_in_context, forward_speed
from tests.benchmarks.measure import Spread, machine, spread
from tests.benchmarks.plain import PlainResult, plain_update, relative_difference
from tests.benchmarks.report import DEFAULT_FOLDER, Line, Plot, draw, publish, table
from tests.benchmarks.workload import Corpus, Workload, draw_corpus, load_workload_model, save_workload_model

NAME = "distillation_speed"
KNOWLEDGE = (2_048, 8_192)


@dataclass(frozen=True)
class Exactness:
    """Relative differences to the plain implementation, before the first step."""

    loss: float
    gradient: float
    """Norm of the difference of all gradients over the norm of the plain one."""
    ties: int
    """Tokens where rounding decides which is the k-th: the objective jumps there, in any implementation."""
    peer_loss: float
    """The peer's loss against the plain renormalised one: shows that it was given the same samples."""


@dataclass(frozen=True)
class SpeedRow:
    """One knowledge length. Seconds are of one update of all samples."""

    workload: Workload
    forms: str
    """Which of its ways our update chose."""
    peer: Spread
    ours: Spread
    """The knowledge is computed in each update."""
    ours_kept: Spread
    """The knowledge is cached already: every update of a round but the first of each file."""
    ratio: Spread
    ratio_kept: Spread
    floor: float
    """Seconds; attention over the knowledge costs nothing in it."""
    floor_in_context: float
    """Seconds; the teacher's tokens at the speed of sequences as long as the teacher's."""
    forward: Spread
    """Tokens a second of forwards as short as prompt and response."""
    taught_forward: Spread
    """Tokens a second of forwards as long as the teacher's sequences."""
    exactness: Exactness


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _seconds(updates: Sequence[Update]) -> Spread:
    return spread([update.seconds for update in updates])


def _ratio(slow: Sequence[Update], fast: Sequence[Update]) -> Spread:
    """Of updates that took the same turn."""
    return spread([one.seconds / other.seconds for one, other in zip(slow, fast, strict=True)])


def _relative(found: float, expected: float) -> float:
    return abs(found - expected) / abs(expected)


def _plain(workload: Workload, corpus: Corpus, folder: Path) -> PlainResult:
    student, teacher = (load_workload_model(folder, workload) for _ in range(2))
    return plain_update(student, teacher, workload, corpus)


def _take_turns(peer: Sdft, ours: Ours, repeats: int) -> tuple[list[Update], list[Update], list[Update]]:
    """The peer, ours with the knowledge to compute, ours with the knowledge kept; and again."""
    found: tuple[list[Update], list[Update], list[Update]] = ([], [], [])
    for number in range(1, repeats + 1):
        found[0].append(peer.update())
        ours.forget()
        found[1].append(ours.update())
        found[2].append(ours.update())
        peers, cold, kept = (updates[-1].seconds for updates in found)
        _say(f"  {number}/{repeats}: SDFT {peers:.2f} s, ours {cold:.2f} s, knowledge kept {kept:.2f} s")
    return found


def measure(workload: Workload, repeats: int) -> SpeedRow:
    """One knowledge length, all contenders."""
    with tempfile.TemporaryDirectory() as place:
        folder, corpus = Path(place), draw_corpus(workload)
        save_workload_model(workload, folder)
        _say(f"knowledge {workload.knowledge}: the plain implementation, then {repeats} turns")
        plain = _plain(workload, corpus, folder)
        ours, peer = Ours(workload, corpus, folder), Sdft(workload, corpus, folder)
        loss, gradients = ours.gradient()
        peers, cold, kept = _take_turns(peer, ours, repeats)
        model = load_workload_model(folder, workload)
        short = forward_speed(model, workload, workload.own_length, repeats)
        long = forward_speed(model, workload, workload.knowledge + workload.own_length, repeats)
    return SpeedRow(
        workload=workload,
        forms=ours.forms,
        peer=_seconds(peers),
        ours=_seconds(cold),
        ours_kept=_seconds(kept),
        ratio=_ratio(peers, cold),
        ratio_kept=_ratio(peers, kept),
        floor=floor_seconds(workload, short.median),
        floor_in_context=floor_seconds_in_context(workload, short.median, long.median),
        forward=short,
        taught_forward=long,
        exactness=Exactness(
            _relative(loss, plain.loss),
            relative_difference(gradients, plain.gradients),
            plain.ties,
            _relative(peers[0].loss, plain.renormalised_loss),
        ),
    )


def _times(rows: Sequence[SpeedRow]) -> str:
    cells = [[row.workload.knowledge, row.peer, row.ours, row.ratio, row.ours_kept, row.ratio_kept] for row in rows]
    return table(["knowledge", "SDFT s", "ours s", "ratio", "ours s, knowledge kept", "ratio, kept"], cells)


def _floors(rows: Sequence[SpeedRow]) -> str:
    columns = ["knowledge", "floor s", "ours / floor", "floor in context s", "ours / floor in context", "forward"]
    cells = [
        [
            row.workload.knowledge,
            f"{row.floor:.2f}",
            f"{row.ours.median / row.floor:.2f}",
            f"{row.floor_in_context:.2f}",
            f"{row.ours.median / row.floor_in_context:.2f}",
            f"{row.forward.median:.0f} tokens/s, in context {row.taught_forward.median:.0f}",
        ]
        for row in rows
    ]
    return table(columns, cells)


def _differences(rows: Sequence[SpeedRow]) -> str:
    columns = ["knowledge", "loss", "gradient", "ties at k", "SDFT's loss, renormalised", "our forms"]
    cells = [
        [
            row.workload.knowledge,
            *(f"{part:.1e}" for part in (row.exactness.loss, row.exactness.gradient)),
            row.exactness.ties,
            f"{row.exactness.peer_loss:.1e}",
            row.forms,
        ]
        for row in rows
    ]
    return table(columns, cells)


def as_markdown(rows: Sequence[SpeedRow]) -> str:
    """The tables of docs/benchmarks.md."""
    differences = f"Relative differences to the plain implementation:\n\n{_differences(rows)}"
    return "\n\n".join([_times(rows), _floors(rows), differences])


def plot(rows: Sequence[SpeedRow]) -> Plot:
    """Seconds of an update against the knowledge."""
    lengths = [row.workload.knowledge for row in rows]
    lines = [
        Line("SDFT", lengths, [row.peer.median for row in rows]),
        Line("ours", lengths, [row.ours.median for row in rows]),
        Line("ours, knowledge kept", lengths, [row.ours_kept.median for row in rows]),
        Line("floor", lengths, [row.floor for row in rows]),
    ]
    return Plot("One update", "knowledge tokens", "seconds", lines, log="xy")


def run(workload: Workload, knowledge: Sequence[int], repeats: int, out: Path, name: str = NAME) -> list[SpeedRow]:
    """All knowledge lengths; tables, JSON and plot go to `out`."""
    rows = [measure(replace(workload, knowledge=length), repeats) for length in knowledge]
    draw([plot(rows)], out / f"{name}.svg")
    publish(name, out, machine(workload.device), rows, as_markdown(rows))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--knowledge", type=int, nargs="+", default=KNOWLEDGE)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    run(Workload(), options.knowledge, options.repeats, options.out)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
