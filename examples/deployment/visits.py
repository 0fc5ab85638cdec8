"""The shop's own log of visits: how many went to the right desk, by the version that answered."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_visits(path: Path) -> list[dict[str, Any]]:
    """The visits that were answered, in order."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "good" in line]


def by_version(visits: Iterable[dict[str, Any]]) -> list[tuple[str, int, float, float, float]]:
    """Version, visits, share of good ones, and its 95% Wilson interval; versions in order of their first visit."""
    found: dict[str, list[bool]] = {}
    for visit in visits:
        found.setdefault(visit["version"], []).append(visit["good"])
    return [(name, len(good), sum(good) / len(good), *wilson(sum(good), len(good))) for name, good in found.items()]


def wilson(passed: int, count: int) -> tuple[float, float]:
    """E. B. Wilson, JASA 22, 1927; `count` is above 0."""
    z, rate = 1.96, passed / count
    middle, scale = rate + z * z / (2 * count), 1 + z * z / count
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
