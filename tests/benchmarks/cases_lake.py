"""Cases beside the world itself: `python -m tests.benchmarks.cases_lake --root runs/cases-lake`.

The lake poses as a deployment without an environment. The start model's episodes come into an inbox with the right next
moves as expected answers, as an annotator would give them. One round learns from some of the sessions and is measured
on cases from the others; beside it stands what the lake itself says about the same models.
"""

import argparse
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from oel_core.config.run import OelConfig, load_config
from oel_core.envs.base import env_spec
from oel_core.envs.lake import MOVES
from oel_core.evaluation import make_suite
from oel_core.policies import load_policy
from oel_core.projects.triggers import begin
from oel_core.rollouts.planning import plan_episodes
from oel_core.rollouts.playing import play_episodes
from oel_core.rounds.context import DEFAULT_CONTEXT
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import open_run
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.seeds import SEEDINGS
from oel_core.stages.evaluate import evaluate
from oel_core.stages.gate import gate, read_verdict
from oel_core.stages.round import run_round
from oel_core.types import Feedback, Split, Trajectory, Turn
from tests.benchmarks import report

DEADLY, KEY, GOAL = "HX", "K", "G"
PLACE = tuple[int, int]


def right_moves(text: str) -> list[str]:
    """The first moves of all shortest ways on a board to what comes next, the key or else the goal."""
    rows = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    cells = {
        (row, column): cell.strip() for row, line in enumerate(rows) for column, cell in enumerate(line.split("|"))
    }
    target = KEY if KEY in cells.values() else GOAL
    deadly = DEADLY + (GOAL if target == KEY else "")
    start = next((place for place, cell in cells.items() if cell == "P"), None)
    if start is None:
        return []
    far = distances(cells, target, deadly)
    ways = {move: far.get((start[0] + down, start[1] + right)) for move, (down, right) in MOVES.items()}
    nearest = min((steps for steps in ways.values() if steps is not None), default=None)
    return [move for move, steps in ways.items() if steps is not None and steps == nearest]


def distances(cells: dict[PLACE, str], target: str, deadly: str) -> dict[PLACE, int]:
    """Steps from every cell to the target without a deadly one."""
    goals = [place for place, cell in cells.items() if cell == target]
    found, waiting = dict.fromkeys(goals, 0), deque(goals)
    while waiting:
        row, column = waiting.popleft()
        for down, right in MOVES.values():
            place = (row + down, column + right)
            if place in cells and place not in found and cells[place] not in deadly:
                found[place] = found[row, column] + 1
                waiting.append(place)
    return found


def annotated(episode: Trajectory) -> Trajectory:
    """The episode with the right moves of each turn as expected answers."""
    return episode.model_copy(update={"turns": tuple(map(_annotated, episode.turns)), "session": episode.id})


def _annotated(turn: Turn) -> Turn:
    moves = right_moves(turn.messages[-1].content)
    return turn.model_copy(
        update={"given": tuple(Feedback(source="code", name="solver", expected=move) for move in moves)}
    )


def settings(inbox: Path, sessions: int) -> OelConfig:
    pattern = r"\\[{answer}\\]\\s*$"
    return load_config(
        "quickstart",
        [
            "rounds=1",
            "knowledge.carry_over=false",
            f"experience.inbox={inbox}",
            f"experience.min_episodes={sessions}",
            "evaluate.held_out=cases",
            "evaluate.cases.scorer=regex",
            f'evaluate.cases.options={{pattern: "{pattern}"}}',
            "evaluate.cases.held_out=0.3",
            "evaluate.cases.sampling={temperature: 0.7, top_p: 0.8, top_k: 20, max_tokens: 48}",
            "evaluate.ood={}",
        ],
    )


def record(config: OelConfig, inbox: Path, sessions: int) -> None:
    """The deployment: the start model plays, a solver annotates."""
    spec, seeding = env_spec(config), SEEDINGS[config.environment.seeds]
    plans = plan_episodes(
        spec, config.seed, Split.EXTRACT, 1, 100, sessions, config.environment.split_by_layout, seeding
    )
    policy = load_policy(config.model.path, config.model)
    played = play_episodes(policy, spec, plans, config.play, seed=config.seed)
    inbox.mkdir(parents=True, exist_ok=True)
    write_atomic(inbox / "lake.jsonl", jsonl_bytes(map(annotated, played)))


def by_the_world(round: Round) -> list[str]:
    """Pass rates by the lake itself: the start model, told the round's knowledge, and the round's result."""
    games = round.config.model_copy(update={"evaluate": round.config.evaluate.model_copy(update={"held_out": "games"})})
    texts = round.knowledge().texts(games.evaluate.games.episodes, games.seed)
    arms: Sequence[tuple[str, dict[str, object]]] = (
        (round.start_model(), {}),
        (round.start_model(), {"arm": "in_context", "texts": texts}),
        (round.model(), {}),
    )
    reports = [make_suite("games", options, games).run(load_policy(path, games.model)) for path, options in arms]
    return [f"{found.pass_rate:.1%} ({found.ci95[0]:.1%} to {found.ci95[1]:.1%})" for found in reports]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--sessions", type=int, default=400)
    options = parser.parse_args()
    inbox = options.root.resolve() / "inbox"
    config = settings(inbox, options.sessions)
    if not inbox.exists():
        record(config, inbox, options.sessions)
    run = open_run(options.root, "lake")
    if not (run.path / "round_01").exists():
        print(begin(config, run, "first", 0))
    round = Round(config, run, 1)
    evaluate(round.at(0), "held_out")
    run_round(round)
    gate(round, DEFAULT_CONTEXT)
    measured = [round.report(part) for part in ("start", "in_context", "held_out")]
    cases = [f"{found.pass_rate:.1%} ({found.ci95[0]:.1%} to {found.ci95[1]:.1%})" for found in measured if found]
    verdict = read_verdict(run, 1)
    print(report.table(["", "cases", "the lake"], list(zip(ARMS, cases, by_the_world(round), strict=True))))
    print(f"promoted: {verdict.promote}, {verdict.held_out.episodes} cases, {verdict.refusals or 'no refusals'}")


ARMS = ("start model", "with the knowledge in context", "consolidated")

if __name__ == "__main__":
    main()
