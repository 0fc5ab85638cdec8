"""The contract of an evaluation suite (`oel_core.evaluation.base.Suite`)."""

from collections.abc import Sequence

from oel_core.errors import ArtifactError
from oel_core.evaluation.base import Suite
from oel_core.policies.base import Policy
from oel_core.types import EvalReport, Split, Trajectory


def check_suite(suite: Suite, policy: Policy) -> None:
    """Checks the contract of a suite: runs it once as a whole and once resumed from half of the episodes.

    Args:
        suite: a suite of at least two episodes; few suffice.
        policy: a reproducible policy, such as `oel_core.policies.scripted.ScriptedPolicy`; otherwise the two reports
            are not compared.

    Raises:
        AssertionError: the suite violates its contract; the message says how.
    """
    assert suite.name.isidentifier(), f"name {suite.name!r} is not of letters, digits and underscores"
    total = suite.total
    assert total >= 2, f"total is {total}: this check needs at least two episodes"
    report, played = _run(suite, policy, ())
    _check_episodes(played, total)
    _check_report(suite, policy, report, played)
    kept = total // 2
    resumed, rest = _run(suite, policy, played[:kept])
    missing = [episode.id for episode in played[kept:]]
    assert [episode.id for episode in rest] == missing, "a resumed run does not play the missing episodes, in order"
    if policy.reproducible:
        assert resumed == report, "the report of a resumed run differs"
    _refuses_foreign_episodes(suite, policy, played[0])


def _run(suite: Suite, policy: Policy, done: Sequence[Trajectory]) -> tuple[EvalReport, list[Trajectory]]:
    played: list[Trajectory] = []
    return suite.run(policy, done=done, on_episode=played.append), played


def _check_episodes(played: Sequence[Trajectory], total: int) -> None:
    ids = [episode.id for episode in played]
    assert len(ids) == total, f"on_episode was called for {len(ids)} episodes, total is {total}"
    assert len(set(ids)) == total, "two episodes have the same id"
    others = {episode.split for episode in played} - {Split.HELD_OUT, Split.VALIDATION}
    assert not others, f"episodes of the split {', '.join(sorted(others))} are used for evaluation"


def _check_report(suite: Suite, policy: Policy, report: EvalReport, played: Sequence[Trajectory]) -> None:
    assert (report.suite, report.policy) == (suite.name, policy.name), "the report names another suite or policy"
    assert report.episodes == len(played), f"the report counts {report.episodes} episodes of {len(played)}"
    passed = sum(episode.passed and episode.error is None for episode in played)
    assert report.passed == passed, f"the report counts {report.passed} passed episodes of {passed}"
    assert report.pass_rate == passed / len(played), f"pass_rate is {report.pass_rate}"
    low, high = report.ci95
    assert low <= report.pass_rate <= high, f"ci95 {report.ci95} does not contain the pass rate"


def _refuses_foreign_episodes(suite: Suite, policy: Policy, episode: Trajectory) -> None:
    foreign = episode.model_copy(update={"seed": episode.seed + 1})
    try:
        suite.run(policy, done=[foreign])
    except ArtifactError:
        return
    raise AssertionError("an episode with another seed in `done` raised no ArtifactError")
