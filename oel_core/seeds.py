"""Seeds without collisions: every (split, round, replica, index) of a loop seed maps to its own 32-bit seed.

The four coordinates are packed into 32 bits and passed through a Feistel permutation keyed by the loop seed. A
permutation has no collisions, so episodes of different splits, rounds or replicas never share a seed, and it scatters,
so neighbouring episodes do not get neighbouring seeds.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from oel_core.errors import ConfigError
from oel_core.types import Split

_BITS = {"split": 2, "round": 6, "replica": 7, "index": 17}
_SPLIT_CODE = {Split.EXTRACT: 0, Split.DISTILL: 1, Split.VALIDATION: 2, Split.HELD_OUT: 3}


def _half(value: int, key: int, step: int) -> int:
    digest = hashlib.blake2b(f"{key}:{step}:{value}".encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big")


def _permute(value: int, key: int) -> int:
    left, right = value >> 16, value & 0xFFFF
    for step in range(4):
        left, right = right, left ^ _half(right, key, step)
    return left << 16 | right


def episode_seed(loop_seed: int, split: Split, round_index: int, replica: int, index: int) -> int:
    """The environment seed of one episode, in [0, 2³²).

    Raises:
        ConfigError: a coordinate is too large to be packed (over 63 rounds, 127 replicas or 131,071 episodes).
    """
    packed = 0
    values = {"split": _SPLIT_CODE[split], "round": round_index, "replica": replica, "index": index}
    for name, bits in _BITS.items():
        if not 0 <= values[name] < 2**bits:
            raise ConfigError(f"{name} {values[name]} has no seed of its own: the most is {2**bits - 1}")
        packed = packed << bits | values[name]
    return _permute(packed, loop_seed)


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
            f"ranges hold {_REFERENCE_MOST[split]} episodes a round and 63 rounds; use environment.seeds: disjoint"
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
