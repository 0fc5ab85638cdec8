"""Playing with a streaming policy: no waiting for others, and results independent of completion order."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core import envs
from oel_core.config.run import PlayConfig
from oel_core.config.sampling import Sampling
from oel_core.envs.base import EnvSpec
from oel_core.errors import ConfigError, PolicyError, PromptTooLongError
from oel_core.policies.base import Completion, Policy, Request, StreamingPolicy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rollouts.playing import EpisodePlan, play_episodes, unfinished
from oel_core.seeds import derive_seed
from oel_core.types import Message, Split, Trajectory
from tests.fakes import CORRIDOR, CorridorEnv

SPEC = EnvSpec("corridor", max_turns=4)
PLAY = PlayConfig(sampling=Sampling(max_tokens=40))
Pick = Callable[[Sequence[Request]], int]


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(envs.REGISTRY, *CORRIDOR)
        yield


def wander(messages: tuple[Message, ...], seed: int) -> str:
    return ("go [left]", "go [right]", "stay")[seed % 3]


class Streamed(ScriptedPolicy):
    """Answers one waiting request at a time: the one that `pick` chooses, once `crowd` are waiting or no more come."""

    reproducible = False

    def __init__(self, pick: Pick = lambda waiting: 0, *, batch_size: int = 4, crowd: int = 1) -> None:
        super().__init__(wander, batch_size=batch_size)
        self._pick, self._crowd = pick, crowd
        self.waiting: list[tuple[Request, Future[Completion]]] = []
        self.most_waiting = 0
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._answer_all, daemon=True)
        self._thread.start()

    def submit(self, request: Request, sampling: Sampling) -> Future[Completion]:
        future: Future[Completion] = Future()
        with self._changed:
            self.waiting.append((request, future))
            self.most_waiting = max(self.most_waiting, len(self.waiting))
            self._changed.notify()
        return future

    def _answer_all(self) -> None:
        while True:
            with self._changed:
                first = self.most_waiting < self._crowd  # the first crowd always comes, however busy the machine is
                self._changed.wait_for(
                    lambda: self._over or len(self.waiting) >= self._crowd, timeout=None if first else 0.02
                )
                if self._over:
                    return
                if not self.waiting:
                    continue
                at = self._pick([request for request, _ in self.waiting])
                request, future = self.waiting.pop(at)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self.reply(request))
                except Exception as error:
                    future.set_exception(error)

    def reply(self, request: Request) -> Completion:
        return self.generate([request], Sampling(max_tokens=40))[0]

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()


def plans(count: int) -> list[EpisodePlan]:
    return [EpisodePlan(f"e{seed:04d}", seed, Split.EXTRACT, 1, 0, seed) for seed in range(count)]


def play(policy: Policy, count: int, spec: EnvSpec = SPEC) -> list[Trajectory]:
    return list(play_episodes(policy, spec, plans(count), PLAY, seed=1))


def content(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Everything but wall time, in plan order."""
    ordered = sorted(trajectories, key=lambda one: one.index)
    return [one.model_dump(exclude={"turns": {"__all__": {"wall_s"}}}) for one in ordered]


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_the_order_of_answers_decides_nothing(random: Any, batch_size: int) -> None:
    policy = Streamed(lambda waiting: random.randrange(len(waiting)), batch_size=batch_size, crowd=batch_size)
    assert isinstance(policy, StreamingPolicy)
    streamed = play(policy, 9)
    policy.close()
    assert content(streamed) == content(play(ScriptedPolicy(wander), 9))
    assert policy.most_waiting == batch_size


def test_nobody_waits_for_the_slowest() -> None:
    """The first episode is answered only when nothing else waits: all others are over before it."""

    def slowest_last(waiting: Sequence[Request]) -> int:
        others = [at for at, request in enumerate(waiting) if request.seed not in slow]
        return others[0] if others else 0

    slow = {derive_seed(1, "e0000", turn) for turn in range(4)}
    policy = Streamed(slowest_last, batch_size=3, crowd=2)
    episodes = play(policy, 8)
    policy.close()
    assert [episode.id for episode in episodes][-1] == "e0000"


def test_a_prompt_that_does_not_fit_and_an_environment_that_fails_fail_alone() -> None:
    class Short(Streamed):
        def reply(self, request: Request) -> Completion:
            if sum(len(message.content) for message in request.messages) > 2000:
                raise PromptTooLongError({0: "too long"})
            return super().reply(request)

    policy = Short()
    padded = {one.index: one.error for one in play(policy, 6, EnvSpec("corridor", {"pad": 3000}, 4))}
    assert [padded[index] for index in range(6)] == [None, "PromptTooLongError: too long"] * 3
    for where in ("start", "step"):
        failed = {one.index: one.error for one in play(policy, 6, EnvSpec("corridor", {"fail": where}, 4))}
        assert [failed[index] is None for index in range(6)] == [True, False] * 3
    policy.close()


@pytest.mark.parametrize("kind", [PolicyError, ConfigError])
def test_a_policy_that_fails_ends_the_play_after_what_was_finished(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds: list[CorridorEnv] = []
    monkeypatch.setattr(envs, "make_env", lambda spec, seed: worlds.append(CorridorEnv(spec, seed)) or worlds[-1])

    class Dying(Streamed):
        answers = 0

        def reply(self, request: Request) -> Completion:
            self.answers += 1
            if self.answers > 12:
                raise kind("the server is gone")
            return super().reply(request)

    policy, finished = Dying(batch_size=3, crowd=3), []
    with pytest.raises(kind, match="the server is gone"):
        finished.extend(play_episodes(policy, SPEC, plans(20), PLAY, seed=1))
    assert finished
    assert all(future.cancelled() or future.done() for _, future in policy.waiting)
    assert worlds
    assert all(world.closed for world in worlds)
    left = unfinished(plans(20), {episode.id for episode in finished}, policy)
    assert len(left) == 20 - len(finished)
    policy.close()


def test_a_caller_who_stops_takes_everything_back() -> None:
    policy = Streamed(batch_size=3)
    episodes = play_episodes(policy, SPEC, plans(9), PLAY, seed=1)
    next(episodes)
    episodes.close()  # type: ignore[attr-defined]
    assert all(future.cancelled() or future.done() for _, future in policy.waiting)
    policy.close()


def test_generation_time_is_shared_out() -> None:
    """The turns' generation seconds together are no more than the seconds that passed."""
    policy = Streamed(batch_size=8, crowd=8)
    started = time.perf_counter()
    episodes = play(policy, 8)
    passed = time.perf_counter() - started
    policy.close()
    assert 0 < sum(turn.wall_s for episode in episodes for turn in episode.turns) <= 2 * passed
