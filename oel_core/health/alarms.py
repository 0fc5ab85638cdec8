"""The alarms of a project: what is tested, at which level, and which of them were reported.

Drift is tested at every check on fixed windows, so one check in 1/level is a false alarm. The champion's sessions are
tested against its predecessor's by an e-process, valid for any number of checks: that alarm may act, and is false
for one champion in 1/rollback_level.
"""

import math
import time
from collections.abc import Sequence
from typing import Literal

from oel_core.cases.scorers.agreement import Agreement
from oel_core.config.operation import AlarmsConfig
from oel_core.gate.evidence import required
from oel_core.health.drift import evidence_of_worse, fewer_right, other_requests
from oel_core.health.sessions import Session, of_version
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import read_optional
from oel_core.text.figures import percent
from oel_core.types import Record

ALARMS = "alarms.json"
Name = Literal["requests", "success", "judge", "champion"]


class Finding(Record):
    """The result of one test."""

    name: Name
    """`requests`: what is asked; `success`: answers of the champion over time; `judge`: its agreement with people;
    `champion`: its answers beside its predecessor's."""
    alarm: bool
    text: str
    """What was compared, in a sentence."""


class Raised(Record):
    """A reported alarm."""

    name: Name
    about: str
    """The version that served; another one's alarm is a new one."""
    text: str
    at: float
    """Seconds since 1970, UTC."""


class Alarms(Record):
    """`alarms.json` in a project's folder: reported alarms that still hold."""

    raised: tuple[Raised, ...] = ()


def read_alarms(run: RunFolder) -> Alarms:
    """The reported alarms that held at the last check. ArtifactError: the file is damaged."""
    return read_optional(run.path / ALARMS, Alarms) or Alarms()


def new_alarms(run: RunFolder, found: Sequence[Finding], version: str) -> list[Raised]:
    """The alarms that were not reported yet."""
    reported = {(one.name, one.about) for one in read_alarms(run).raised}
    now = time.time()
    holding = [one for one in found if one.alarm and (one.name, version) not in reported]
    return [Raised(name=one.name, about=version, text=one.text, at=now) for one in holding]


def note_alarms(run: RunFolder, found: Sequence[Finding], version: str, reported: Sequence[Raised]) -> None:
    """Stores what was reported. Call it afterwards: after a kill in between an alarm is reported twice, not lost."""
    holding = {one.name for one in found if one.alarm}
    known = [one for one in read_alarms(run).raised if one.about == version and one.name in holding]
    alarms = Alarms(raised=(*known, *reported))
    write_atomic(run.path / ALARMS, alarms.model_dump_json(indent=1).encode())


def examine(
    found: Sequence[Session],
    judged: Sequence[Agreement],
    project: str,
    champion: str,
    before: str,
    settings: AlarmsConfig,
) -> list[Finding]:
    """The result of every test for which there is enough.

    Args:
        found: sessions in order of time.
        judged: a judge's agreement with people in each round, oldest first.
        champion: label of the version that serves, `before` of the one that it replaced (`of_version`).
    """
    own, earlier = of_version(found, project, champion), of_version(found, project, before)
    tests = (
        _requests([one.asked for one in found], settings),
        _success(_rated(own), settings),
        _judge(judged, settings),
        _champion(_rated(earlier), _rated(own), before, settings) if champion != before else None,
    )
    return [one for one in tests if one is not None]


def _rated(found: Sequence[Session]) -> list[bool]:
    return [one.right for one in found if one.right is not None]


def _requests(asked: Sequence[str], settings: AlarmsConfig) -> Finding | None:
    size = settings.window
    if len(asked) < 2 * size:
        return None
    chance = other_requests(asked[-2 * size : -size], asked[-size:])
    text = f"requests of the newest {size} sessions and of the {size} before differ so much by chance: {chance:.2g}"
    return Finding(name="requests", alarm=chance <= settings.level, text=text)


def _success(rated: Sequence[bool], settings: AlarmsConfig) -> Finding | None:
    size = settings.window
    if len(rated) < 2 * size:
        return None
    first, last = rated[:size], rated[-size:]
    chance = fewer_right(first, last)
    text = (
        f"people called right {_share(first)} of the champion's first {size} rated sessions and {_share(last)} of its "
        f"newest: probability of such a fall {chance:.2g}"
    )
    return Finding(name="success", alarm=chance <= settings.level, text=text)


def _judge(judged: Sequence[Agreement], settings: AlarmsConfig) -> Finding | None:
    if len(judged) < 2 or not judged[-1].rated or not sum(one.rated for one in judged[:-1]):
        return None
    earlier = [outcome for one in judged[:-1] for outcome in _outcomes(one)]
    newest = _outcomes(judged[-1])
    chance = fewer_right(earlier, newest)
    text = (
        f"the judge agreed with people on {_share(earlier)} of earlier rounds' answers and on {_share(newest)} of the "
        f"newest round's: probability of such a fall {chance:.2g}"
    )
    return Finding(name="judge", alarm=chance <= settings.level, text=text)


def _outcomes(one: Agreement) -> list[bool]:
    return [True] * one.agreed + [False] * (one.rated - one.agreed)


def _champion(before: Sequence[bool], own: Sequence[bool], label: str, settings: AlarmsConfig) -> Finding | None:
    if not before or not own:
        return None
    evidence, needed = evidence_of_worse(before, own, settings.margin), required(settings.rollback_level)
    text = (
        f"people called right {_share(own)} of the champion's {len(own)} rated sessions and {_share(before)} of the "
        f"{len(before)} of version {label} before it: log10 evidence {evidence / math.log(10):.2f} of "
        f"{needed / math.log(10):.2f} that it is worse"
    )
    return Finding(name="champion", alarm=evidence >= needed, text=text)


def _share(rated: Sequence[bool]) -> str:
    return percent(sum(rated) / len(rated))
