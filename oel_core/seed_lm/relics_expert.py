"""The scripted policy and extractor of the relics, whose outputs are training data of the two-world seed model.

It walks and takes relics; a relic that was taken without losing counts as a key. The meaning of letters comes from the
knowledge in its prompt or is guessed. It has no memory between turns: to find a relic it walks around the ring.
"""

import random
import re
from dataclasses import dataclass, replace

from oel_core.envs.lake import ALPHABET
from oel_core.envs.textworld import relics
from oel_core.seed_lm.expert import NOTHING_LEARNT, Facts, stated

_ROOM = re.compile(rf"-= ({'|'.join(name.title() for name in relics.NAMES)}) =-")
_LETTER = re.compile(r"relic ([A-Z])\b")


@dataclass(frozen=True)
class View:
    """A room as the player sees it."""

    room: int
    here: tuple[str, ...]
    """Letters in the room, in the listed order."""
    carried: tuple[str, ...]


def read_view(observation: str) -> View | None:
    """The room in an observation, or None if it shows none."""
    rooms = _ROOM.findall(observation)
    if not rooms:
        return None
    shown = observation[observation.rindex("-= ") :]
    floor, _, carried = shown.partition("You are carrying")
    return View(relics.NAMES.index(rooms[-1].lower()), tuple(_LETTER.findall(floor)), tuple(_LETTER.findall(carried)))


def read_facts(knowledge: str) -> Facts:
    """The beliefs about relics stated by knowledge in the seed model's item format."""
    return stated(knowledge, bad="is cursed", key="opens what is sealed", gate="is sealed", goal="is the treasure")


def unknown(facts: Facts, view: View) -> list[str]:
    """Letters in this room without a belief."""
    return [letter for letter in view.here if facts.role(letter) == "?"]


def guess(facts: Facts, view: View, rng: random.Random) -> Facts:
    """With probability one half the facts unchanged, otherwise with a guessed role for every unknown relic.

    A guess may name letters that are absent: distillation cannot make tokens likelier that are never sampled without
    knowledge.
    """
    left = unknown(facts, view)
    everything_known = not left and facts.aim is not None and (facts.key is not None or bool(view.carried))
    if everything_known or rng.random() < 0.5:
        return facts
    rng.shuffle(left)
    named = {*view.here, *view.carried, *facts.bad, facts.key, facts.gate, facts.goal}
    absent = [letter for letter in ALPHABET if letter not in named]
    rng.shuffle(absent)
    if facts.aim is None and rng.random() < 0.8:
        facts = replace(facts, goal=left.pop() if left and rng.random() < 0.7 else absent.pop())
    if facts.key is None and not view.carried and rng.random() < 0.6:
        facts = replace(facts, key=left.pop() if left and rng.random() < 0.7 else absent.pop())
    left += [absent.pop()] if not facts.bad and rng.random() < 0.5 else []
    return replace(facts, bad=(*facts.bad, *sorted(left)))


def choose_target(facts: Facts, view: View, rng: random.Random) -> str | None:
    """The letter that a player with these beliefs needs next, here or elsewhere; None for any."""
    may_open = bool(view.carried) or facts.gate is None or facts.key is not None
    if facts.key is not None and not view.carried:
        return facts.key
    if facts.aim is not None and may_open:
        return facts.aim
    left = unknown(facts, view)
    return rng.choice(left) if left else None


def _labelled(letters: tuple[str, ...], role: dict[str, str]) -> str:
    return ", ".join(f"{letter} {role[letter]}" for letter in letters) or "nothing"


def think_and_act(facts: Facts, view: View, rng: random.Random) -> str:
    """One response: beliefs, labels of the room and the inventory, the next target, then the command."""
    believed = guess(facts, view, rng)
    target = choose_target(believed, view, rng)
    roles = {letter: believed.role(letter) for letter in view.here} | dict.fromkeys(view.carried, "key")
    aim_word = "goal" if believed.goal or not believed.gate else "gate"
    command = f"take relic {target}" if target in view.here else f"go {relics.ROUND[view.room]}"
    return (
        f"Bad:{','.join(believed.bad) or '?'}; key:{believed.key or '?'}; {aim_word}:{believed.aim or '?'}. "
        f"Here:{_labelled(view.here, roles)}. Carried:{_labelled(view.carried, roles)}. "
        f"Next:{target or '?'}. [{command}]"
    )


def learn(observations: list[str], feedback: str) -> list[str]:
    """Items that can be learnt from an episode: its observations and the final feedback."""
    items = [
        relics.item_key(found[1])
        for observation in observations
        if (found := re.match(r"You pick up the relic (.) from the ground", observation)) and "***" not in observation
    ]
    taken = _LETTER.search(feedback)
    forms = {relics.CURSED: relics.item_curse, relics.SEALED: relics.item_sealed, relics.WON: relics.item_treasure}
    items += [form(taken[1]) for said, form in forms.items() if taken and said in feedback]
    return items or [NOTHING_LEARNT]
