"""Seeds without collisions: every (split, round, replica, index) of a loop seed maps to its own seed.

The four coordinates are packed into one number and passed through a Feistel permutation keyed by the loop seed. A
permutation has no collisions, so episodes of different splits, rounds or replicas never share a seed, and it scatters,
so neighbouring episodes do not get neighbouring seeds.

Rounds up to 63 fill all 32-bit seeds. Later ones get seeds in [2⁵², 2⁵³): above all earlier ones, and whole numbers
that every reader of JSON keeps exact.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from oel_core.errors import ConfigError
from oel_core.types import Split

NARROW: Final = 2**32
_SPLIT_CODE = {Split.EXTRACT: 0, Split.DISTILL: 1, Split.VALIDATION: 2, Split.HELD_OUT: 3}


@dataclass(frozen=True)
class _Packing:
    """How coordinates become one number, and where its seeds begin."""

    bits: Mapping[str, int]
    offset: int

    def seed(self, loop_seed: int, values: Mapping[str, int]) -> int:
        packed, half = 0, sum(self.bits.values()) // 2
        for name, bits in self.bits.items():
            if not 0 <= values[name] < 2**bits:
                raise ConfigError(f"{name} {values[name]} has no seed of its own: the most is {2**bits - 1}")
            packed = packed << bits | values[name]
        return self.offset + _permute(packed, loop_seed, half)


_EARLY = _Packing({"split": 2, "round": 6, "replica": 7, "index": 17}, 0)
_LATE = _Packing({"split": 2, "round": 16, "replica": 17, "index": 17}, 2**52)
"""A trial of the gate has the champion's round in the place of the replica, so that has room for every round, too."""


def _half(value: int, key: int, step: int, bits: int) -> int:
    digest = hashlib.blake2b(f"{key}:{step}:{value}".encode(), digest_size=(bits + 7) // 8).digest()
    return int.from_bytes(digest, "big") % 2**bits


def _permute(value: int, key: int, half: int) -> int:
    """A permutation of the numbers of 2 * `half` bits."""
    left, right = value >> half, value % 2**half
    for step in range(4):
        left, right = right, left ^ _half(right, key, step, half)
    return left << half | right


def episode_seed(loop_seed: int, split: Split, round_index: int, replica: int, index: int) -> int:
    """The environment seed of one episode: in [0, 2³²) up to round 63, in [2⁵², 2⁵³) from then on.

    Raises:
        ConfigError: a coordinate is too large to be packed (over 65,535 rounds, 127 replicas, or 131,071 episodes).
    """
    packing = _EARLY if round_index < 2 ** _EARLY.bits["round"] else _LATE
    values = {"split": _SPLIT_CODE[split], "round": round_index, "replica": replica, "index": index}
    return packing.seed(loop_seed, values)


def narrow_seed(seed: int, attempt: int, *parts: object) -> int:
    """A 32-bit seed for a generator that takes no more: the episode's own if it fits, otherwise derived from it.

    `attempt`: from 0; each further one gives another seed. `parts` tell the generators apart.
    """
    return seed if attempt == 0 and seed < NARROW else derive_seed(*parts, seed, attempt) % NARROW


Seeding = Callable[[int, Split, int, int, int], int]
"""(loop seed, split, round, replica, index) → environment seed of one episode."""

_REFERENCE_GAMES: Final = 468382021 + 78025
_REFERENCE_CONSOLIDATION: Final = 505019424 + 190039
_REFERENCE_MOST = {Split.EXTRACT: 500, Split.DISTILL: 10_000, Split.VALIDATION: 500, Split.HELD_OUT: 500}
"""Episodes of one split and round before the reference's ranges would run into each other."""


def reference_seed(loop_seed: int, split: Split, round_index: int, replica: int, index: int) -> int:
    """The environment seed that the reference implementation of arXiv 2603.16856 uses for this episode.

    Loop seed and replica do not change it: replicas play the same boards and differ by their sampling. The reference
    has no validation episodes; theirs are offset by half a stride, where no other seeds are.

    Raises:
        ConfigError: a coordinate exceeds what its ranges have.
    """
    if not 0 <= round_index < 64 or not 0 <= index < _REFERENCE_MOST[split]:
        raise ConfigError(
            f"environment.seeds: paper has no seed for {split.value} episode {index} of round {round_index}: its "
            f"ranges hold {_REFERENCE_MOST[split]} episodes a round and 63 rounds; set environment.seeds to disjoint"
        )
    if split is Split.DISTILL:
        return _REFERENCE_CONSOLIDATION + 10_000_000 * (max(1, round_index) - 1) + 1000 * index
    if split is Split.EXTRACT:
        return _REFERENCE_GAMES + 500_000 * round_index + 1000 * (128 + index)
    if split is Split.VALIDATION:
        return _REFERENCE_GAMES + 500 + 500_000 * round_index + 1000 * index
    return _REFERENCE_GAMES + 1000 * index


SEEDINGS: Final[dict[str, Seeding]] = {"disjoint": episode_seed, "paper": reference_seed}
"""`environment.seeds` → function that gives environment seeds."""


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any named parts, for everything except environments (sampling, shuffling)."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
