"""Months compressed: many rounds of one run, in a world whose rules change halfway, with and without each defence.

    python -m tests.benchmarks.months --rounds 24 --seeds 3 --defences none,revision,gate,gate_revision

Every round starts from the model and the knowledge of the one before it; with a defence whose gate is `sequential` from
those of the champion, which the gate of `oel trigger next-round` decides about. From round `--change` on the rules are
reversed: on the lake the letters of hole and goal are exchanged, among relics those of a curse and the treasure; in the
shop of `examples/deployment`, where a function has to be called, six desks exchange their matters; in the tool world,
which needs a fetched model and takes minutes a round, four commands get other verbs.
After every round its model plays held-out boards of the present world and as many of the old one, without knowledge:
what was learned, and what was unlearned; the champion's pass rate in the present world is `served`. The rest is
measured when the tables are made, of the base model, the last one before the change and the last one: the KL from the
base model, boards by the rules of the other side of the change with true knowledge of them in the prompt, and boards
with letters that were never met, without knowledge. The sizes are small, so that 24 rounds of the lake take minutes of
one core.

A run without a gate whose distillation is stopped as unstable ends in that round. The run folders stay: the same
command goes on where it was stopped, more rounds and seeds are added to them, and finished stages of `none` are taken
over by a defence where it changes nothing yet. `--show` writes tables and curves of what is there. Tables by round have
the mean over seeds and, in parentheses, each seed's value; the first table has means over rounds with intervals.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from oel_core.config.run import OelConfig, load_config
from oel_core.distillation.training.step_records import read_steps
from oel_core.errors import ExtractionError, UnstableError
from oel_core.knowledge.store import load_knowledge
from oel_core.models.threads import set_run_threads
from oel_core.rounds.context import REPORT
from oel_core.rounds.round import Round
from oel_core.runs.folder import MANIFEST, RunFolder, adopt_config, open_run
from oel_core.runs.manifest import Manifest, read_record
from oel_core.runs.round_start import RoundStart, read_start, write_start
from oel_core.stages.distill import STEPS
from oel_core.stages.gate import STAGE as GATE_STAGE
from oel_core.stages.gate import gate, read_verdict
from oel_core.stages.measure import measure
from oel_core.stages.round import run_round
from oel_core.study.sharing import SharingFolder
from oel_core.types import EvalReport
from tests.benchmarks import shop_world
from tests.benchmarks.months_probes import base_distance, follows_contrary, hedges
from tests.benchmarks.months_replay import write_replay
from tests.benchmarks.months_tables import Row, curves, markdown, means, moments
from tests.benchmarks.report import draw, publish

SMALL = (
    "collect.replicas=4",
    "collect.extraction_episodes=2",
    "extract.use_after=2",
    "knowledge.selection.use=all",
    "distill.retention={}",
    "distill.turns_per_episode=2",
    "distill.steps=4",
    "distill.episodes_per_step=8",
    "evaluate.games.episodes=48",
    "evaluate.games.arms=[]",
    "evaluate.ood={}",
)
"""A round of a few seconds on one core, without the retention of the presets."""
GATE = ("gate.test=sequential", "gate.sequential.block_episodes=32", "gate.sequential.most_episodes=256")
START_SHARE = ("distill.retention.start_share=0.5",)
BASE_START = ("distill.start=base", "distill.steps=8")
"""With the steps of two rounds: every round has to learn everything again."""
BASE_START_24 = ("distill.start=base", "distill.steps=24")
TAIL = ("distill.objective=reverse_kl_tail",)
"""The default of `distill`, which is bounded below; the presets of these worlds have the paper's."""
LORA = ("distill.learning_rate=3e-3",)
"""Of an adapter; chosen between 2e-3, which learns slowly, and 5e-3, on loop seeds 900 and 901."""
DEFENCES: dict[str, tuple[str, ...]] = {
    "none": (),
    "revision": ("knowledge.revision=on",),
    "fresh_knowledge": ("knowledge.carry_over=false",),
    "in_context_retention": ("distill.retention.in_context_weight=0.1",),
    "base_share": ("distill.retention.base_share=0.25",),
    "start_share": START_SHARE,
    "base_start": BASE_START,
    "replay": (),
    "lora": ("model.lora={r: 16, alpha: 32}", *LORA),
    "lora_merge": ("model.lora={r: 16, alpha: 32, merge: true}", *LORA),
    "mixture": ("distill.regime=mixture", "distill.objective=reverse_kl_tail"),
    "revision_base_share": ("knowledge.revision=on", "distill.retention.base_share=0.25"),
    "revision_start_share": ("knowledge.revision=on", *START_SHARE),
    "revision_base_start": ("knowledge.revision=on", *BASE_START),
    "revision_base_start_replay": ("knowledge.revision=on", *BASE_START),
    "revision_base_start_24": ("knowledge.revision=on", *BASE_START_24),
    "revision_base_start_24_replay": ("knowledge.revision=on", *BASE_START_24),
    "tail": TAIL,
    "revision_tail": ("knowledge.revision=on", *TAIL),
    "gate": GATE,
    "gate_revision": (*GATE, "knowledge.revision=on"),
    "gate_revision_base_start_24": (*GATE, "knowledge.revision=on", *BASE_START_24),
}
"""Name → settings that differ from `none`, which accumulates knowledge as the paper does.

Arms with `replay` in their names replay prompts of their own world with letters never met, without knowledge, which a
file of the root holds.
"""


@dataclass(frozen=True)
class World:
    """A preset, sizes, and the options whose rules change."""

    preset: str
    sizes: tuple[str, ...]
    changed: dict[str, Any]
    """Options from the change on."""
    wrong: tuple[tuple[str, ...], tuple[str, ...]]
    """Texts of items that are wrong before the change, and of those that are wrong after it."""
    letters: bool = True
    """Whether what is to be learnt is the meaning of letters, as the seed model states it."""


WORLDS = {
    "lake": World(
        "quickstart",
        ("environment.options={size: 3, holes: 2, traps: 0, key: false}", "environment.max_turns=6"),
        {"symbols": {"hole": "G", "trap": "X", "key": "K", "goal": "H"}},
        (("'H' is the goal", "'G' ends"), ("'G' is the goal", "'H' ends")),
    ),
    "relics": World(
        "textworld-seed",
        (),
        {"symbols": {"curses": "MB", "key": "S", "treasure": "T"}},
        (("'T' is the treasure", "'B' is cursed"), ("'B' is the treasure", "'T' is cursed")),
    ),
    "tools": World(
        "tools-qwen-0.5b",
        (
            *("collect.extraction_episodes=32", "extract.use_after=32", "distill.turns_per_episode=1"),
            "distill.steps=12",
        ),
        {"renamed": 4},
        (
            ("borrows dump", "borrows pass", "copies rate", "borrows retire"),
            ("borrows query", "borrows delegate", "copies value", "borrows settle"),
        ),
        letters=False,
    ),
    "shop": World(
        str(shop_world.EXAMPLE / "seed.yaml"),
        (
            *("environment.name=tests.benchmarks.shop_world:ShopWorld", "environment.max_turns=2"),
            *("collect.extraction_episodes=8", "extract.use_after=8", "distill.turns_per_episode=null"),
            *("distill.steps=14", "distill.episodes_per_step=10", "evaluate.held_out=games"),
            *("evaluate.games.sampling={temperature: 0.7, max_tokens: 32}", "evaluate.games.episodes=96"),
        ),
        {"moved": 6},
        (shop_world.untrue(0, 6), shop_world.untrue(6, 0)),
        letters=False,
    ),
}


def settings(
    world: str, defence: str, seed: int, rounds: int, change: int, more: Sequence[str], root: Path = Path()
) -> OelConfig:
    """The configuration of one run."""
    chosen = WORLDS[world]
    changes = [{"round": change, "options": chosen.changed}]
    run = (f"seed={seed}", f"rounds={rounds}", f"environment.changes={json.dumps(changes)}")
    replay = {"path": str(root / f"replay-{world}.jsonl"), "weight": 0.1}
    replayed = [f"distill.retention.replay={json.dumps(replay)}"] if "replay" in defence else []
    return load_config(chosen.preset, [*SMALL, *chosen.sizes, *run, *DEFENCES[defence], *replayed, *more])


def folder_of(root: Path, world: str, defence: str, seed: int) -> SharingFolder:
    """A run that may take over finished stages of the one without a defence."""
    run = open_run(root, f"{world}-{defence}-{seed}")
    return SharingFolder(run.path, () if defence == "none" else (f"{world}-none-{seed}",))


def champion_after(run: RunFolder, number: int) -> int:
    """The newest round up to this one that its gate promoted; 0 is the base model."""
    decided = (index for index in range(number, 0, -1) if run.has(index, GATE_STAGE))
    return next((index for index in decided if read_verdict(run, index).promote), 0)


def gated(config: OelConfig) -> bool:
    return config.gate.test == "sequential"


def one_round(root: Path, config: OelConfig, run: RunFolder, number: int) -> None:
    """Runs a round, unless it has finished, and measures its model by the old rules too, the champion by the new."""
    round = Round(config, run, number)
    if gated(config) and number and read_start(run, number) is None:
        parent = champion_after(run, number - 1)
        write_start(run, number, RoundStart(parent=parent, knowledge=parent or None, trigger=f"round-{number}"))
    run_round(round)
    before = config.at_round(0)
    if round.config.environment != before.environment:
        measure(root / "old" / run.name / str(number), before, round.model(), "games", {})
    if gated(config):
        if number:
            gate(round)
        champion = round.at(champion_after(run, number))
        if _measured_before(champion, round):
            measure(served_folder(root, champion), round.config, champion.model(), "games", {})


def served_folder(root: Path, champion: Round) -> Path:
    """Of a champion's episodes by the rules after the change."""
    return root / "served" / champion.run.name / str(champion.number)


def _measured_before(champion: Round, round: Round) -> bool:
    """Whether the champion's own evaluation has other rules than the round."""
    return champion.config.environment != round.config.environment


def learn(root: Path, world: str, runs: Sequence[tuple[str, int, OelConfig]], rounds: int) -> None:
    """All rounds of (defence, seed, configuration), round by round, so that they can be compared at any time.

    A run without a gate whose distillation becomes unstable, or whose knowledge is empty, ends there and the others go
    on.
    """
    folders = [folder_of(root, world, defence, seed) for defence, seed, _ in runs]
    for run, (_, _, config) in zip(folders, runs, strict=True):
        replay = config.distill.retention.replay
        if replay is not None and not Path(replay.path).exists():
            write_replay(Path(replay.path), config)
        adopt_config(run, config)
        set_run_threads(run.path, config.model)
    going = list(zip(folders, runs, strict=True))
    for number in range(rounds + 1):
        for run, (defence, seed, config) in list(going):
            try:
                with run.locked():
                    one_round(root, config, run, number)
            except (UnstableError, ExtractionError) as error:
                print(f"{defence}, seed {seed}, fails in round {number}: {error}", flush=True)
                if not gated(config):  # else the next round starts from the champion, as in a project
                    going.remove((run, (defence, seed, config)))
        print(f"round {number} of {rounds}", flush=True)


def found_row(root: Path, world: str, defence: str, seed: int, config: OelConfig, number: int) -> Row | None:
    """What a finished round left; None if it has not finished."""
    run = folder_of(root, world, defence, seed)
    round = Round(config, run, number)
    own = round.report("held_out")
    changed = round.config.environment != config.at_round(0).environment
    again = root / "old" / run.name / str(number)
    if own is None or (changed and not (again / REPORT).exists()):
        return None
    if gated(config) and number and not run.has(number, GATE_STAGE):
        return None
    served = served_rate(root, round, own)
    if served is None:
        return None
    steps = read_steps(round.stage("distill").path / STEPS)[-1:] if number else []
    files = round.stage("accumulate")
    texts = [load_knowledge(files.path, replica).text for replica in range(config.collect.replicas)] if number else []
    wrong = [any(words in text for words in WORLDS[world].wrong[changed]) for text in texts]
    probed = number in (0, config.environment.changes[0].round - 1, config.rounds)
    seconds = sum(read_record(path / MANIFEST, Manifest).counts["seconds"] for path in run.stages(number))
    verdict = read_verdict(run, number) if number and gated(config) else None
    return Row(
        world=world,
        defence=defence,
        seed=seed,
        round=number,
        changed=changed,
        present=own.pass_rate,
        old=read_record(again / REPORT, EvalReport).pass_rate if changed else own.pass_rate,
        served=served,
        promoted=None if verdict is None else float(verdict.promote),
        pairs=None if verdict is None else float(verdict.held_out.episodes),
        response_tokens=own.response_tokens,
        entropy=steps[0].entropy if steps else None,
        kl=steps[0].kl if steps else None,
        base_kl=base_distance(root, round) if probed else None,
        contrary=follows_contrary(root, round) if probed else None,
        hedged=hedges(root, round) if probed and WORLDS[world].letters else None,
        stale=fmean(wrong) if wrong else None,
        knowledge_tokens=files.manifest().counts["tokens_mean"] if number else None,
        seconds=seconds,
        bytes=sum(path.stat().st_size for path in round.path.rglob("*") if path.is_file()),
    )


def served_rate(root: Path, round: Round, own: EvalReport) -> float | None:
    """The pass rate of the model that is served after the round; without a gate this is the round's own.

    None if the champion has not been measured by the round's rules.
    """
    champion = round.at(champion_after(round.run, round.number)) if gated(round.settings) else round
    if not _measured_before(champion, round):
        return (champion.report("held_out") or own).pass_rate
    path = served_folder(root, champion) / REPORT
    return read_record(path, EvalReport).pass_rate if path.exists() else None


def main() -> None:
    options = _options()
    defences, root = options.defences.split(","), options.root.resolve()
    runs = [
        (defence, seed, settings(options.world, defence, seed, options.rounds, options.change, options.set, root))
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for defence in defences
    ]
    if not options.show:
        learn(root, options.world, runs, options.rounds)
    found = [
        found_row(root, options.world, defence, seed, config, number)
        for defence, seed, config in runs
        for number in range(options.rounds + 1)
    ]
    rows = [row for row in found if row is not None]
    name = f"months-{options.world}"
    draw(curves(rows, defences), root / f"{name}.svg")
    compared = means(rows, defences, options.rounds, options.change)
    at = moments(rows, defences, (0, options.change - 1, options.rounds))
    publish(name, root, {"change": options.change}, rows, f"{compared}\n\n{at}\n\n{markdown(rows, defences)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--world", choices=sorted(WORLDS), default="lake")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--change", type=int, default=13, help="First round with the new rules.")
    parser.add_argument("--seeds", type=int, default=1, help="Number of loop seeds.")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--defences", default="none,revision", help=f"Of {', '.join(DEFENCES)}.")
    parser.add_argument("--root", type=Path, default=Path("runs/months"))
    parser.add_argument("--set", action="append", default=[], help="section.field=value, for all runs.")
    parser.add_argument("--show", action="store_true", help="Only show what has been run.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
