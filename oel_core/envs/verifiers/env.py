"""Environments of verifiers (https://github.com/PrimeIntellect-ai/verifiers): `SingleTurnEnv` and `MultiTurnEnv`.

Versions before 0.4 have them. `MultiTurnEnv.rollout` requests each response from its client; here the same steps are
taken one at a time, with responses of the policy.
"""

import hashlib
import json
from collections.abc import Coroutine, Iterable
from typing import Any, ClassVar, Final, Literal, TypeVar

from pydantic import Field

from oel_core.config.section import Options
from oel_core.envs.base import EnvSpec, Step
from oel_core.envs.options import EnvOptions, parse_options
from oel_core.envs.verifiers import engine
from oel_core.errors import ConfigError, EnvironmentError_

NOT_UNDERSTOOD: Final = "That is not an answer in the form that was asked for."
OVER: Final = "The episode is over."
Result = TypeVar("Result")


class VerifiersOptions(EnvOptions):
    """Options of the `verifiers` environment."""

    id: str
    """Name of an installed environment, like `wordle`: its module has a function `load_environment`. Required."""
    args: Options = Field(default_factory=dict)
    """Arguments of `load_environment`."""
    dataset: Literal["train", "eval"] = "train"
    """Which of the environment's two datasets the episodes are taken from."""
    intro: str = Field(default="", pattern=r"^[^\n]*$")
    """One line for the player, after the environment's system prompt."""
    pass_reward: float = Field(default=1.0, gt=0)
    """The reward of the environment's rubric that is a pass. Rewards are divided by it."""


class VerifiersEnv:
    """An environment of verifiers whose messages are texts. See `oel_core.envs.base.Environment`.

    The seed chooses a row of the dataset, and the layout is a digest of that row. The action is the whole response, if
    the environment's parser finds an answer in it. The rubric scores the rollout when it ends or reaches the turn
    limit, and the reward belongs to that step.
    """

    Options: ClassVar = VerifiersOptions
    extraction_task = (
        "You study one finished attempt at a task. Work out from what happened what is worth knowing in other tasks of "
        "this kind: what is asked for, what worked, what failed and why."
    )

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Starts the rollout of the seed's row.

        Raises:
            ConfigError: verifiers is not installed, or the environment cannot be played with texts.
            EnvironmentError_: the environment failed.
        """
        self.options = parse_options(VerifiersOptions, spec)
        name, args = self.options.id, json.dumps(self.options.args, sort_keys=True)
        self._env, rows = engine.load(name, args, self.options.dataset)
        self.intro, self._left = self.options.intro, spec.max_turns
        self._ended = self._cleaned = False
        row = rows[seed % len(rows)]
        self.layout = _digest(row)
        self.instructions = _system_prompt(rows[0]["prompt"])
        if _system_prompt(row["prompt"]) != self.instructions:
            raise ConfigError(
                f"environment.options.id: the rows of {name} have different system prompts: a run has one"
            )
        self._state = self._do(engine.begin(self._env, row))
        self._prompt = list(self._do(self._env.get_prompt_messages(self._state)))
        self._first = _text(message for message in self._prompt if _role(message) != "system")

    def start(self) -> str:
        """The prompt of the row, without its system prompt."""
        return self._first

    def parse(self, response: str) -> str | None:
        """The response, if the environment's parser finds an answer in it."""
        try:
            answer = self._env.parser.parse_answer([{"role": "assistant", "content": response}])
        except Exception:  # of a parser that expects its own form
            return None
        return response if answer is not None and str(answer).strip() else None

    def step(self, action: str | None) -> Step:
        """Plays a response; one without an answer is not passed to the environment."""
        if self._ended:
            return Step(OVER, 0.0, True)
        self._left -= 1
        observation = NOT_UNDERSTOOD
        if action is not None and self.parse(action) is not None:
            observation = self._do(self._play(action)) or OVER
        reward = self._do(self._score()) if self._ended or not self._left else 0.0
        return Step(observation, reward / self.options.pass_reward, self._ended)

    def feedback(self, *, truncated: bool) -> str:
        """Success or failure with the reward, and the value of each function of the rubric."""
        reward = self._state["reward"] or 0.0
        passed = round(reward / self.options.pass_reward, 12) >= 1.0
        own_limit = self._env.max_turns > 1 and self._state.get("stop_condition") == "max_turns_reached"
        limit = "round limit reached, " if truncated or own_limit else ""
        values = ", ".join(f"{name} {value:g}" for name, value in (self._state["metrics"] or {}).items())
        reached = f"a reward of {reward:g}, {self.options.pass_reward:g} is a pass"
        return f"{'Success' if passed else 'Failure'}: {limit}{reached}." + (f" Rubric: {values}." if values else "")

    def close(self) -> None:
        """Runs the environment's cleanup of the rollout."""
        if not self._cleaned:
            self._cleaned = True
            self._do(self._env.cleanup(self._state))

    async def _play(self, response: str) -> str:
        """Adds a response and returns the environment's response to it, empty if there is none."""
        await engine.respond(self._env, self._state, self._prompt, response)
        self._ended = await self._env.is_completed(self._state)
        if self._ended:
            return ""
        messages = list(await self._env.get_prompt_messages(self._state))
        last = self._state.get("final_env_response")
        if last is not None:
            self._ended = await self._env.is_completed(self._state)
            return last if isinstance(last, str) else _text(last)
        known = len(self._prompt) + 1
        if messages[: known - 1] != self._prompt or _role(messages[known - 1]) != "assistant":
            raise EnvironmentError_(f"{self.options.id} rewrites earlier messages, which cannot be shown to the policy")
        self._prompt = messages
        return _text(messages[known:])

    async def _score(self) -> float:
        """The rubric's reward of a finished rollout."""
        self._cleaned = True
        await self._env.cleanup(self._state)
        await self._env.rubric.score_rollout(self._state)
        await self._env.rubric.cleanup(self._state)
        return float(self._state["reward"])

    def _do(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine of the environment; its exceptions become EnvironmentError_."""
        try:
            return engine.run(step)
        except (ConfigError, EnvironmentError_):
            raise
        except Exception as error:
            raise EnvironmentError_(f"{self.options.id}: {type(error).__name__}: {error}") from error


def _digest(row: dict[str, Any]) -> str:
    content = {key: value for key, value in row.items() if key != "example_id"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _role(message: Any) -> str:
    return str(message["role"] if isinstance(message, dict) else message.role)


def _system_prompt(prompt: Any) -> str:
    """The text of a prompt's first message if that is a system message, else an empty text."""
    first = [message for message in prompt[:1] if not isinstance(message, str)]
    return _text(first, roles=("system",)).strip() if first and _role(first[0]) == "system" else ""


def _text(messages: Iterable[Any], roles: tuple[str, ...] = ("user", "text")) -> str:
    """The texts of messages. Raises ConfigError for other roles, and for images and audio."""
    texts = []
    for message in messages:
        content = message["content"] if isinstance(message, dict) else message.content
        parts = content if isinstance(content, list) else [content]
        for part in parts:
            text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else part.text
            if not isinstance(text, str) or _role(message) not in roles:
                raise ConfigError(
                    f"environment.options.id: a {_role(message)} message cannot be shown: only texts of the user"
                )
            texts.append(text)
    return "\n\n".join(texts)
