"""lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness). The only module that imports it.

Its checkers score IF-Eval's responses, and its tasks provide prompts and scores of other benchmarks. Generation always
uses a policy, so samplers, seeds and records are the same as elsewhere.
"""

import importlib.metadata
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING, Any

from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError
from oel_core.types import Message

if TYPE_CHECKING:
    from oel_core.evaluation.ifeval import IfevalPrompt


@dataclass(frozen=True)
class Checked:
    """The instructions of one prompt that a response followed."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]
    """Ignoring first and last lines and asterisks."""


def installed() -> bool:
    """Whether the extra is installed."""
    return find_spec("lm_eval") is not None


def version() -> str:
    """Name and version, for reports."""
    return f"lm-eval {importlib.metadata.version('lm_eval')}" if installed() else "none"


def require(suite: str) -> None:
    """Raises ConfigError if the extra is not installed."""
    if not installed():
        raise ConfigError(f"suite {suite} needs lm-evaluation-harness: pip install 'oel[lm-eval]', or leave it out")


# ---- IF-Eval ----


@cache
def _checkers() -> Any:
    """The harness's IF-Eval code, without random arguments or downloads."""
    from oel_core.evaluation.harness.punkt import provide_punkt

    provide_punkt()
    import langdetect

    langdetect.DetectorFactory.seed = 0  # its guesses are random otherwise
    from lm_eval.tasks.ifeval import utils

    return utils


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seeds the global generator, which checkers use for missing arguments, and restores it."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def check_instructions(prompt: "IfevalPrompt", answer: str) -> Checked:
    """The harness's strict and loose verdict on every instruction.

    Raises:
        ConfigError: the harness does not know an instruction of the prompt.
    """
    utils = _checkers()
    example = utils.InputExample(
        key=prompt.key,
        instruction_id_list=list(prompt.instruction_id_list),
        prompt=prompt.prompt,
        kwargs=[dict(entry) for entry in prompt.kwargs],
    )
    verdicts = []
    for check in (utils.test_instruction_following_strict, utils.test_instruction_following_loose):
        with _own_randomness(prompt.key):
            try:
                verdicts.append(tuple(bool(held) for held in check(example, answer).follow_instruction_list))
            except KeyError as error:
                raise ConfigError(f"suite ifeval: prompt {prompt.key} has an unknown instruction {error}") from error
    return Checked(*verdicts)


# ---- any other task ----


@dataclass(frozen=True)
class HarnessTask:
    """One generative task of the harness: its prompts, stop texts and scores."""

    name: str
    prompts: tuple[tuple[Message, ...], ...]
    numbers: tuple[int, ...]
    """Document number of each prompt."""
    sampling: Sampling
    until: tuple[str, ...]
    """Stop texts; a response is cut before the first one."""
    metrics: tuple[str, ...]
    """`metric,filter`; the first is the headline."""
    task: Any
    instances: tuple[Any, ...]

    def measure(self, position: int, answer: str) -> dict[str, Any]:
        """`metric,filter` → value of one response. Deterministic."""
        text = answer
        for stop in self.until:
            text = text.partition(stop)[0]
        instance = copy(self.instances[position])
        instance.resps, instance.filtered_resps = [text], {}
        for chain in self.task._filters:
            chain.apply([instance])
        return {
            f"{metric},{chain}": value
            for chain, response in instance.filtered_resps.items()
            for metric, value in self.task.process_results(instance.doc, [response]).items()
        }

    def aggregate(self, values: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """`metric,filter` → the task's aggregate over all responses."""
        total = {}
        for name in values[0]:
            combine = self.task.aggregation().get(name.partition(",")[0], fmean)
            total[name] = float(combine([one[name] for one in values]))
        return total


def known_task(name: str, folder: str | None) -> bool:
    """Whether the harness, or a folder of task files, has a task of that name."""
    return name in _manager(folder).all_tasks


@cache
def _manager(folder: str | None) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder)


def open_task(name: str, folder: str | None, subset: int | None) -> HarnessTask:
    """Loads a task with its data.

    Args:
        name: the harness's name of one task (not of a group).
        folder: with further task files.
        subset: number of documents from the first on; None for all.

    Raises:
        ConfigError: not one generative task, or its data is not available.
    """
    task = _load(name, folder)
    _refuse_unusable(name, task)
    try:
        task.build_all_requests(
            limit=subset, apply_chat_template=True, fewshot_as_multiturn=True, chat_template=_as_json
        )
    except Exception as error:
        raise ConfigError(f"lm-eval task {name} could not be prepared: {type(error).__name__}: {error}") from error
    instances = tuple(task.instances)
    generation = dict(instances[0].args[1])
    stops = generation.get("until") or []
    return HarnessTask(
        name=name,
        prompts=tuple(_messages(name, instance.args[0]) for instance in instances),
        numbers=tuple(int(instance.doc_id) for instance in instances),
        sampling=_sampling(generation),
        until=tuple([stops] if isinstance(stops, str) else stops),
        metrics=tuple(
            f"{entry['metric']},{chain.name}" for chain in task._filters for entry in task.config.metric_list
        ),
        task=task,
        instances=instances,
    )


def _load(name: str, folder: str | None) -> Any:
    try:
        found = _manager(folder).load([name])
    except Exception as error:  # a missing dataset is whatever its client raises
        raise ConfigError(f"lm-eval task {name} cannot be loaded: {type(error).__name__}: {error}") from error
    if len(found["tasks"]) != 1 or found["groups"]:
        raise ConfigError(f"lm-eval's {name} is a group: name one of its tasks, like {sorted(found['tasks'])[0]}")
    return next(iter(found["tasks"].values()))


def _refuse_unusable(name: str, task: Any) -> None:
    if task.OUTPUT_TYPE != "generate_until":
        raise ConfigError(
            f"lm-eval task {name} is scored by {task.OUTPUT_TYPE}, which needs probabilities of given texts; policies "
            "only generate. Choose a task of type generate_until"
        )
    if getattr(task.config, "unsafe_code", False):
        raise ConfigError(f"lm-eval task {name} runs code that a model wrote: it is not run here")
    if (task.config.repeats or 1) > 1:
        raise ConfigError(f"lm-eval task {name} asks every question {task.config.repeats} times: not supported")


def _as_json(messages: Sequence[Any], add_generation_prompt: bool = True) -> str:
    """The harness expects a chat as a string; policies need its messages."""
    plain = [message if isinstance(message, dict) else message.to_dict() for message in messages]
    return json.dumps({"messages": plain, "open": not add_generation_prompt})


def _messages(name: str, context: str) -> tuple[Message, ...]:
    chat = json.loads(context)
    if chat["open"] or chat["messages"][-1]["role"] != "user":
        raise ConfigError(
            f"lm-eval task {name} begins the answer itself (gen_prefix): chat policies cannot continue it"
        )
    return tuple(Message(role=message["role"], content=message["content"]) for message in chat["messages"])


def _sampling(generation: Mapping[str, Any]) -> Sampling:
    """The task's generation settings; defaults are the harness's: greedy, up to 256 tokens."""
    greedy = not generation.get("do_sample", False)
    return Sampling(
        temperature=0.0 if greedy else float(generation.get("temperature", 1.0)),
        top_p=float(generation.get("top_p", 1.0)),
        top_k=int(generation.get("top_k", 0)),
        max_tokens=int(generation.get("max_gen_toks", 256)),
    )
