"""Loading environments of verifiers and running their coroutines. The only module that imports verifiers."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Coroutine, Mapping
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, TypeVar

from oel_core.errors import ConfigError

Result = TypeVar("Result")


@cache
def load(name: str, args: str, dataset: str) -> tuple[Any, Any]:
    """A `MultiTurnEnv` and its rows, loaded once per process.

    Args:
        name: of the environment, for `verifiers.load_environment`.
        args: its arguments, as JSON.
        dataset: `train` or `eval`.

    Raises:
        ConfigError: verifiers or the environment is not installed, or the environment cannot be played step by step.
    """
    try:
        import verifiers

        multi_turn: Any = verifiers.MultiTurnEnv
    except (ImportError, AttributeError) as error:
        raise ConfigError("environment 'verifiers' needs a package: pip install 'oel[verifiers]'") from error
    _leave_signal_handlers()
    try:
        env = verifiers.load_environment(name, **json.loads(args))
        rows = env.get_dataset() if dataset == "train" else env.get_eval_dataset()
    except Exception as error:
        raise ConfigError(f"environment.options.id: {name} cannot be loaded: {error}") from error
    problem = _unplayable(env, rows, multi_turn)
    if problem is not None:
        raise ConfigError(f"environment.options.id: {name} cannot be played: {problem}")
    return env, rows


def _unplayable(env: Any, rows: Any, multi_turn: Any) -> str | None:
    """Why an environment cannot be played with text responses, one at a time; None if it can."""
    if not isinstance(env, multi_turn):
        return f"it is a {type(env).__name__}, not a SingleTurnEnv or MultiTurnEnv"
    if env.tool_defs:
        return "it offers functions to call, and the policy answers with text"
    if env.requires_group_rollouts:
        return "its rubric compares several rollouts of a row, and an episode is one"
    if not len(rows):
        return "its data set is empty"
    return None


def _leave_signal_handlers() -> None:
    """Keeps the run's handlers of SIGINT and SIGTERM: verifiers replaces them when it creates an environment."""
    module: Any = import_module("verifiers.envs.environment")
    module.signal = SimpleNamespace(**vars(signal) | {"signal": lambda *handler: None})


async def begin(env: Any, row: Mapping[str, Any]) -> Any:
    """The state of a new rollout. Its client raises, because the responses come from the caller."""
    from verifiers.clients import OpenAIChatCompletionsClient

    class NoModel(OpenAIChatCompletionsClient):
        async def get_response(self, *prompt: Any, **options: Any) -> Any:
            raise ConfigError("the environment asks a model of its own for text, which is not supported")

    state = await env.init_state(dict(row), NoModel(None), "policy")
    return await env.setup_state(state) or state


async def respond(env: Any, state: Any, prompt: list[Any], text: str) -> None:
    """Adds a response to the state as if the model had generated it."""
    import verifiers
    from verifiers.types import ResponseMessage

    message = ResponseMessage(content=text, finish_reason="stop", is_truncated=False)
    response = verifiers.Response(id=state["trajectory_id"], created=0, model="policy", message=message)
    await env.add_model_response(state, prompt, response)


def run(step: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine in a background event loop, so that it also works while another loop is running."""
    return asyncio.run_coroutine_threadsafe(step, _loop(os.getpid())).result()


@cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """The event loop of a process, shared by all episodes. A forked process needs a new one."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="verifiers", daemon=True).start()
    return loop
