"""How many inputs a fuzzed reader gets: few in the fast tests, `OEL_FUZZ` of them in `make fuzz`."""

import os


def examples(few: int) -> int:
    """`few`, or `OEL_FUZZ` where that is more."""
    return max(few, int(os.environ.get("OEL_FUZZ", "0")))
