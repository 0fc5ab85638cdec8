"""A running episode: its prompts, environment and turns, and its record."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from oel_core import envs
from oel_core.config.knowledge import InjectionConfig
from oel_core.envs.base import Environment, EnvSpec, FunctionCalling, Step
from oel_core.errors import ConfigError, EnvironmentError_
from oel_core.policies.base import Completion, Request
from oel_core.prompts import play as prompts
from oel_core.prompts.injection import GLOBAL, inject
from oel_core.rollouts.planning import EpisodePlan
from oel_core.runs.manifest import digest_bytes
from oel_core.seeds import derive_seed
from oel_core.text.visible import well_formed
from oel_core.types import Message, ToolCall, Trajectory, Turn

KnowledgeFor = Callable[[EpisodePlan, Environment], str]
"""The knowledge text that an episode's prompts carry; an empty string is none."""


def prompt_digest(ids: Sequence[int]) -> str:
    """`digest_bytes` over token ids written in decimal with single spaces between them."""
    return digest_bytes(" ".join(map(str, ids)).encode())


def episode_return(rewards: Iterable[float]) -> float:
    """The sum of an episode's rewards.

    Rounded to 12 decimals, so that fractions that add up to one (thirds, tenths) give the 1.0 of a pass.
    """
    return round(math.fsum(rewards), 12)


def _checked(step: Step) -> Step:
    """The step with valid text. EnvironmentError_ if its reward is not a finite number."""
    if not math.isfinite(step.reward):
        raise EnvironmentError_(f"the environment gave the reward {step.reward}, which is not a finite number")
    return replace(step, observation=well_formed(step.observation))


@dataclass
class Episode:
    """A running episode."""

    plan: EpisodePlan
    spec: EnvSpec
    injection: InjectionConfig = GLOBAL
    environment: Environment | None = None
    knowledge: str = ""
    messages: tuple[Message, ...] = ()
    """The next student prompt."""
    turns: list[Turn] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    feedback: str = ""
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated or self.error is not None

    def open(self, knowledge: KnowledgeFor | None) -> None:
        """Creates the environment and the first prompt."""
        try:
            self.environment = envs.make_env(self.spec, self.plan.seed)
            observation = well_formed(self.environment.start())
        except Exception as error:
            self.fail(error)
            return
        instructions = self.environment.instructions if self.spec.instructions is None else self.spec.instructions
        system = prompts.system_text(instructions, self.environment.intro)
        functions = self.environment.functions if isinstance(self.environment, FunctionCalling) else ()
        self.messages = prompts.first_messages(well_formed(system), observation, functions)
        if knowledge is not None:
            self.knowledge = knowledge(self.plan, self.environment)

    def request(self, seed: int) -> Request:
        """The request for the next turn. The only place where knowledge is inserted into a prompt."""
        shown = inject(self.messages, self.knowledge, self.injection)
        return Request(messages=shown, seed=derive_seed(seed, self.plan.id, len(self.turns)))

    def answer(self, completion: Completion, generation_s: float, history_turns: int | None) -> None:
        """Plays the response; ends the episode if the game has ended or the turn limit is reached."""
        assert self.environment is not None
        started = time.perf_counter()
        try:
            action = self.environment.parse(completion.text)
            step, call = _checked(self.environment.step(action)), self._call(action)
        except Exception as error:
            self.fail(error)
            return
        turn = Turn(
            messages=self.messages,
            prompt_ids_digest=prompt_digest(completion.prompt_ids),
            prompt_tokens=len(completion.prompt_ids),
            response=completion.text,
            response_ids=completion.response_ids,
            stop_reason=completion.stop_reason,
            action=action,
            observation=step.observation,
            reward=step.reward,
            wall_s=generation_s + time.perf_counter() - started,
            id_source=completion.id_source,
        )
        self.turns.append(turn)
        self.messages = prompts.next_messages(
            self.messages, completion.text, step.observation, history_turns=history_turns, call=call
        )
        if step.terminated or len(self.turns) == self.spec.max_turns:
            self._end(terminated=step.terminated)

    def _call(self, action: str | None) -> ToolCall | None:
        """The action as a call of a declared function, with an id that all templates take: nine letters and digits."""
        if action is None or not isinstance(self.environment, FunctionCalling) or not self.environment.functions:
            return None
        return self.environment.as_call(action).model_copy(update={"id": f"call{len(self.turns) % 10**5:05d}"})

    def _end(self, *, terminated: bool) -> None:
        assert self.environment is not None
        try:
            self.feedback = well_formed(self.environment.feedback(truncated=not terminated))
        except Exception as error:
            self.fail(error)
            return
        self.terminated, self.truncated = terminated, not terminated

    def fail(self, error: Exception) -> None:
        """Records an error as the episode's. Re-raises ConfigError and MemoryError, which concern every episode."""
        if isinstance(error, (ConfigError, MemoryError)):
            raise error
        self.error = well_formed(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Closes the environment, once."""
        environment, self.environment = self.environment, None
        if environment is not None:
            environment.close()

    def trajectory(self, policy: str, intro: str) -> Trajectory:
        """The record. A failed episode is not passed, whatever its rewards."""
        reward = episode_return(turn.reward for turn in self.turns) if self.error is None else 0.0
        return Trajectory(
            **self.plan.coordinates(),
            env=self.spec.name,
            policy=policy,
            knowledge_digest=digest_bytes(self.knowledge.encode()) if self.knowledge else None,
            intro=well_formed(intro),
            turns=tuple(self.turns),
            terminated=self.terminated,
            truncated=self.truncated,
            reward=reward,
            feedback=self.feedback,
            error=self.error,
        )
