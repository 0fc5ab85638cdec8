"""What customers of the shop write: a matter of theirs, in one of many wordings, about one of its things."""

import random
from typing import NamedTuple

MATTERS: dict[str, tuple[int, tuple[str, ...]]] = {
    "refund": (
        4,
        (
            "I want my money back for the {thing}.",
            "Please refund the {thing}.",
            "I am not happy with the {thing} and want to be paid back.",
            "Can I return the {thing} and get my money back?",
        ),
    ),
    "delivery": (
        4,
        (
            "Where is my {thing}?",
            "The {thing} has not arrived yet.",
            "When does the {thing} come?",
            "I am still waiting for the {thing}.",
        ),
    ),
    "cancel": (
        3,
        (
            "Please cancel the {thing}.",
            "I do not need the {thing} any more, do not send it.",
            "Stop the order of the {thing}.",
            "I changed my mind about the {thing}, please cancel it.",
        ),
    ),
    "repair": (
        3,
        (
            "The {thing} is broken.",
            "The {thing} stopped working.",
            "Can you repair the {thing}?",
            "My {thing} fell apart, can somebody fix it?",
        ),
    ),
    "exchange": (
        3,
        (
            "I would like another size of the {thing}.",
            "Please swap the {thing} for a blue one.",
            "Can I exchange the {thing}?",
            "The {thing} is too small, I need a larger one.",
        ),
    ),
    "invoice": (
        2,
        (
            "I need an invoice for the {thing}.",
            "Please send me the bill of the {thing}.",
            "My office wants a receipt for the {thing}.",
            "There is no bill with the {thing}.",
        ),
    ),
    "address": (
        2,
        (
            "I moved, please send the {thing} to my new address.",
            "The address of the {thing} is wrong.",
            "Can you send the {thing} to my office?",
            "Please change the address of the {thing}.",
        ),
    ),
    "voucher": (
        2,
        (
            "My voucher was not used for the {thing}.",
            "I forgot my discount code for the {thing}.",
            "The {thing} was to be cheaper with my voucher.",
            "Why is there no discount on the {thing}?",
        ),
    ),
    "warranty": (
        1,
        (
            "How long is the warranty of the {thing}?",
            "Is the {thing} still under warranty?",
            "I lost the warranty card of the {thing}.",
            "Does the warranty of the {thing} end soon?",
        ),
    ),
    "parts": (
        1,
        (
            "A screw of the {thing} is missing.",
            "There is no cable with the {thing}.",
            "I need spare parts for the {thing}.",
            "The {thing} came without its lid.",
        ),
    ),
    "gift": (
        1,
        (
            "Please wrap the {thing} as a gift.",
            "The {thing} is a present, can you add a card?",
            "Can the {thing} come in gift paper?",
            "The {thing} is for my mother, please wrap it nicely.",
        ),
    ),
    "manual": (
        1,
        (
            "How do I use the {thing}?",
            "I lost the manual of the {thing}.",
            "Can you explain the {thing} to me?",
            "There are no instructions with the {thing}.",
        ),
    ),
}
"""What a customer may want → how often, and in which words."""
THINGS = (
    *("kettle", "lamp", "chair", "clock", "tent", "drill", "toaster", "rug", "mirror", "radio", "bicycle", "camera"),
    *("blender", "printer", "shelf", "jacket", "helmet", "guitar", "heater", "fan", "desk lamp", "backpack", "scale"),
)
OPENINGS = ("", "", "Hello! ", "Hi, it is me again. ", "Good morning. ", "Dear shop, a question. ", "Sorry to ask. ")
ORDERS = (
    "My order is {order}.",
    "Order {order}.",
    "The number of the order is {order}.",
    "It was order {order}, in May.",
    "You find it under {order}.",
)
CLOSINGS = ("", "", " Thank you!", " It is urgent.", " Please be quick.", " I asked this last week.", " Best wishes.")


NUMBERS = range(100, 400)
"""Of open orders. The assistant need not repeat them."""


class Request(NamedTuple):
    """What one customer wants."""

    matter: str
    text: str


def draw_request(rng: random.Random) -> Request:
    """A customer's first message. Rare matters are rare."""
    matter = rng.choices(list(MATTERS), weights=[often for often, _ in MATTERS.values()])[0]
    wish = rng.choice(MATTERS[matter][1]).format(thing=rng.choice(THINGS))
    number = rng.choice(ORDERS).format(order=rng.choice(NUMBERS))
    return Request(matter, f"{rng.choice(OPENINGS)}{wish} {number}{rng.choice(CLOSINGS)}")
