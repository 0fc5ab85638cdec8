"""The scripted policy and extractor whose outputs are the seed model's training data.

It parses boards and plans paths. The meaning of symbols comes from the knowledge in its prompt alone, and is guessed
otherwise, so training on its outputs does not store a deployment's symbols in the weights.
"""

import random
import re
from dataclasses import dataclass, replace

from oel_core.envs import lake
from oel_core.envs.lake import Cell, distances
from oel_core.prompts.extraction.itemised import MARKER

NOTHING_LEARNT = f"{MARKER} Do not waste moves: the episode ends early."


@dataclass(frozen=True)
class Facts:
    """Beliefs about symbols."""

    bad: tuple[str, ...] = ()
    key: str | None = None
    gate: str | None = None
    """Closed without the key."""
    goal: str | None = None

    @property
    def aim(self) -> str | None:
        """The target symbol."""
        return self.goal or self.gate

    def role(self, symbol: str) -> str:
        """The name of a neighbouring symbol's role in a response."""
        if symbol in self.bad:
            return "bad"
        if symbol == self.key:
            return "key"
        return "goal" if symbol == self.aim else "?"


@dataclass(frozen=True)
class View:
    """A board as the player sees it: symbols without roles."""

    size: int
    player: Cell
    symbols: dict[Cell, str]

    def cells(self, symbol: str) -> list[Cell]:
        return [cell for cell, shown in self.symbols.items() if shown == symbol]


def read_board(observation: str) -> View | None:
    """The board in an observation, or None if it shows no board or no player."""
    rows = [line[1:-1].split("|") for line in observation.splitlines() if line.startswith("|")]
    cells = {Cell(r, c): text.strip() for r, row in enumerate(rows) for c, text in enumerate(row)}
    player = next((cell for cell, text in cells.items() if text == "P"), None)
    if player is None:
        return None
    return View(len(rows), player, {cell: text for cell, text in cells.items() if text not in ("", "P")})


def read_facts(knowledge: str) -> Facts:
    """The beliefs stated by knowledge in the seed model's item format."""
    return stated(knowledge, bad="ends the game", key="is a key", gate="is closed", goal="is the goal")


def stated(knowledge: str, *, bad: str, key: str, gate: str, goal: str) -> Facts:
    """The symbols that knowledge states for each role; the last statement wins."""
    facts = Facts(bad=tuple(dict.fromkeys(re.findall(rf"'(.)' {bad}", knowledge))))
    for role, words in (("key", key), ("gate", gate), ("goal", goal)):
        for symbol in re.findall(rf"'(.)' {words}", knowledge):
            facts = replace(facts, **{role: symbol})
    return facts


def unknown_symbols(facts: Facts, view: View) -> list[str]:
    """Symbols on the board without a belief, in alphabetical order."""
    return sorted({symbol for symbol in view.symbols.values() if facts.role(symbol) == "?"})


def guess(facts: Facts, view: View, rng: random.Random) -> Facts:
    """With probability one half the facts unchanged, otherwise with a guessed role for every unknown symbol."""
    unknown = unknown_symbols(facts, view)
    if not unknown or rng.random() < 0.5:
        return facts
    rng.shuffle(unknown)
    if facts.aim is None:
        facts = replace(facts, goal=unknown.pop())
    if unknown and facts.key is None and rng.random() < 0.5:
        facts = replace(facts, key=unknown.pop())
    return replace(facts, bad=(*facts.bad, *sorted(unknown)))


def choose_target(facts: Facts, view: View, rng: random.Random) -> Cell | None:
    """The next target of a player with these beliefs: key, goal, or something unknown; None for any."""
    unknown = unknown_symbols(facts, view)
    key_cells = view.cells(facts.key) if facts.key else []
    aim_cells = view.cells(facts.aim) if facts.aim else []
    needs_key = facts.gate is not None and facts.key is None
    if key_cells:
        wanted = key_cells
    elif aim_cells and not (needs_key and unknown):
        wanted = aim_cells
    elif unknown:
        wanted = view.cells(rng.choice(unknown))
    else:
        return None
    row, column = view.player.row, view.player.column
    return min(wanted, key=lambda cell: (abs(cell.row - row) + abs(cell.column - column), cell))


def choose_move(facts: Facts, view: View, target: Cell | None, rng: random.Random) -> str:
    """The first step of a shortest path to the target that avoids everything bad and, if possible, everything else."""
    bad = [cell for cell, symbol in view.symbols.items() if symbol in facts.bad and cell != target]
    others = [cell for cell in view.symbols if cell != target]
    if target is not None:
        for blocked in (others, bad):
            way = distances(view.size, target, blocked)
            steps = {action: way.get(view.player.moved(action)) for action in lake.MOVES}
            reachable = {action: left for action, left in steps.items() if left is not None}
            if reachable:
                return min(reachable, key=lambda action: reachable[action])
    inside = [a for a in lake.MOVES if _inside(view, view.player.moved(a))]
    return rng.choice([a for a in inside if view.player.moved(a) not in bad] or inside)


def _inside(view: View, cell: Cell) -> bool:
    return 0 <= cell.row < view.size and 0 <= cell.column < view.size


def _neighbour(facts: Facts, view: View, action: str) -> str:
    cell = view.player.moved(action)
    if not _inside(view, cell):
        return "wall"
    symbol = view.symbols.get(cell)
    return "free" if symbol is None else f"{symbol} {facts.role(symbol)}"


def _direction(view: View, target: Cell) -> str:
    down, right = target.row - view.player.row, target.column - view.player.column
    parts = [f"{'down' if down > 0 else 'up'} {abs(down)}"] if down else []
    parts += [f"{'right' if right > 0 else 'left'} {abs(right)}"] if right else []
    return " ".join(parts)


def think_and_act(facts: Facts, view: View, rng: random.Random) -> str:
    """One response: beliefs, own position, labels of all neighbours, the next target with its position, then the move.

    Labels come before the target, so that the target does not influence them. Rows and columns count from 0 at the top
    left, as in TextArena.
    """
    believed = guess(facts, view, rng)
    target = choose_target(believed, view, rng)
    aim_word = "goal" if believed.goal or not believed.gate else "gate"
    plan = f"Bad:{','.join(believed.bad) or '?'}; key:{believed.key or '?'}; {aim_word}:{believed.aim or '?'}."
    here = f" At {view.player.row},{view.player.column}."
    where = " Next:?."
    if target:
        where = f" Next:{view.symbols[target]} {target.row},{target.column}, {_direction(view, target)}."
    around = ", ".join(f"{action}:{_neighbour(believed, view, action)}" for action in lake.MOVES)
    return f"{plan}{here} {around}.{where} [{choose_move(believed, view, target, rng)}]"


def stepped_on(response: str) -> str | None:
    """The symbol that a response labelled in the direction of its own move."""
    moves = re.findall(r"\[(up|down|left|right)\]", response)
    labels = dict(re.findall(r"(up|down|left|right):(\S)(?= )", response))
    return labels.get(moves[-1]) if moves else None


def learn(turns: list[tuple[str, str]], end: str, feedback: str) -> list[str]:
    """Items that can be learnt from an episode: (observation, response) pairs, last observation and feedback."""
    items = []
    after = [observation for observation, _ in turns[1:]] + [end]
    for (_, response), answer in zip(turns, after, strict=True):
        symbol = stepped_on(response)
        if symbol and lake.PICKED_UP in answer:
            items.append(lake.item_key(symbol))
    last = stepped_on(turns[-1][1])
    if last and "Game over" in feedback:
        items.append(lake.item_gate(last) if lake.CLOSED in feedback else lake.item_bad(last))
    if last and feedback.startswith("Success"):
        items.append(lake.item_goal(last))
    return items or [NOTHING_LEARNT]
