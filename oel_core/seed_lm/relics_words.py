"""The fixed phrases of the relics, for a tokenizer in which each of them is one token."""

from oel_core.envs import lake
from oel_core.envs.base import HIDDEN_RULES
from oel_core.envs.textworld import relics
from oel_core.envs.textworld.text import INTRO, NOT_POSSIBLE
from oel_core.prompts import play

ANALOGUES = {
    form("\x00").split("\x00")[1]: older("\x00").split("\x00")[1]
    for form, older in (
        (relics.item_curse, lake.item_bad),
        (relics.item_key, lake.item_key),
        (relics.item_sealed, lake.item_gate),
        (relics.item_treasure, lake.item_goal),
    )
} | {". Here:": ". At ", ". Carried:": ". At "}
"""New phrase → the lake's phrase that plays the same part; training may start its embedding there."""


def phrases() -> list[str]:
    """Longest first, without repeats; those of the lake are not repeated."""
    rooms = [f"-= {name.title()} =-\n{relics.describe(number)}" for number, name in enumerate(relics.NAMES)]
    seen = ["\n\nThere is a relic ", ", a relic ", " and a relic ", " on the floor."]
    seen += ["\n\nYou are carrying: a relic ", f"\n\n{relics.CARRYING_NOTHING}"]
    taken, ground = relics.PICKED_UP
    events = [f"{NOT_POSSIBLE}\n\n", taken, ground, f"{ground}\n\n{relics.POINT}\n\n", f"\n\n{relics.POINT}"]
    ends = [
        "\n\n*** You lost! ***\n\nYou scored ",
        "\n\n*** The End ***\n\nYou scored ",
        " out of a possible ",
        ", in ",
    ]
    ends += [" turns.", " turn.", " (score ", " of ", f" {relics.POINT} {relics.WON}"]
    ends += [f" {said}" for said in (relics.CURSED, relics.SEALED, relics.WON)]
    answer = [". Here:", ". Carried:", "nothing", ". [take relic ", *(f". [go {way}]" for way in relics.ROUND)]
    every = {play.system_text(HIDDEN_RULES, INTRO), *ANALOGUES, *rooms, *seen, *events, *ends, *answer}
    return sorted(every, key=lambda text: (-len(text), text))
