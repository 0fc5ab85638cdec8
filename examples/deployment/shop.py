"""The shop behind the assistant: its desks, which matters each of them takes, and the one tool that reaches them.

Nobody has told the assistant which desk does what. The shop takes whatever is handed to one of its desks; that
it was the wrong desk shows later, when the customer complains.
"""

from typing import Any

from wordings import MATTERS

SYSTEM = (
    "You answer the customers of a shop. Hand each request to the desk that takes care of it, then tell the customer."
)
DESKS = (
    *("heron", "finch", "raven", "stork", "crane", "robin", "swift", "eagle"),
    *("goose", "quail", "snipe", "egret", "grebe", "plover", "magpie", "kestrel"),
)
DESK_OF = {
    "refund": "snipe",
    "delivery": "raven",
    "cancel": "kestrel",
    "repair": "goose",
    "exchange": "finch",
    "invoice": "grebe",
    "address": "swift",
    "voucher": "stork",
    "warranty": "eagle",
    "parts": "magpie",
    "gift": "robin",
    "manual": "crane",
}
"""What the assistant has to find out."""
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "hand_over",
        "description": "Hands the customer's request to a desk of the shop.",
        "parameters": {
            "type": "object",
            "properties": {
                "matter": {"type": "string", "enum": list(MATTERS)},
                "desk": {"type": "string", "enum": list(DESKS)},
            },
            "required": ["matter", "desk"],
        },
    },
}


def hand_over(matter: str, desk: str) -> str:
    """What the tool answers, whether or not it is the right desk."""
    if matter not in MATTERS or desk not in DESKS:
        return "Error: there is no such desk or matter."
    return f"It was handed to the {desk} desk."
