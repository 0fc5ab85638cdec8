"""Rollouts by vLLM inside a distillation: the student's weights are synchronised to the engine before each step.

    with closing(make_sampler(model, start, config, tokens, workdir)) as sampler:
        rollouts = sampler.roll_out(student, samples)

Weights are passed as files: the adapter alone where the student has one, named by its digest, else the whole model.
Prompts and responses are token ids, each sample has its own seed, and stop tokens and temperature are those of the
loss. An engine that exits is restarted once with the same weights.

Why not TRL's `VLLMGeneration`: it samples a whole batch with one `SamplingParams`, so samples have no seeds of their
own; it merges an adapter into the base model and sends all weights at every step; it needs NCCL to send weights to a
server, which excludes CPUs; and it requires an engine core inside the training process.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.config.student_rollouts import rollout_model
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.training.rollouts import ReadPrefixes, Rollout, Sampler, Tokens
from oel_core.errors import ConfigError, PolicyError, PromptTooLongError, ServiceError
from oel_core.models.adapters import is_lora
from oel_core.models.saving import current_weights, write_weights
from oel_core.policies import check_backend
from oel_core.policies.base import Completion

logger = logging.getLogger(__name__)


class StudentPolicy(Protocol):
    """The interface of an engine: a policy whose weights can be replaced."""

    closed: bool

    @property
    def stops(self) -> frozenset[int]:
        """Stop token ids."""
        ...

    def load_weights(self, folder: Path) -> None:
        """Replaces the weights by those in a folder."""
        ...

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
    ) -> list[Completion]:
        """Completions in the order of the prompts, each sampled with its own seed."""
        ...

    def pause(self) -> None:
        """Releases its memory until the next prompt, where it can."""
        ...

    def close(self) -> None:
        """Shuts the engine down."""
        ...


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Digest (32 hex digits) of names, dtypes, shapes and contents."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


class StudentEngine:
    """Generates with the current weights of the model that it is called with.

    Args:
        load: starts the engine; called at the first prompt, and again where the engine exits.
        folder: for the files that pass weights to the engine; removed at the end.
        dtype: of a whole model's weights there.
    """

    def __init__(self, load: Callable[[], StudentPolicy], folder: Path, dtype: torch.dtype) -> None:
        self._load, self._folder, self._dtype = load, folder, dtype
        self._policy: StudentPolicy | None = None
        self._digest: str | None = None

    def generate(
        self, model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        """One response for each prompt, with the model's current weights.

        Raises:
            ServiceError: the engine does not start, or exited twice in a row.
            ConfigError: a server that cannot serve this model or returns no token ids, or a prompt that is too long.
        """
        try:
            try:
                return self._attempt(model, prompts, seeds, sampling)
            except PolicyError as error:
                if self._policy is None or not self._policy.closed:
                    raise
                logger.warning("%s; it is restarted with the student's weights", error)
                self._shut_down()
                return self._attempt(model, prompts, seeds, sampling)
        except PromptTooLongError as error:  # a retry cannot succeed
            raise ConfigError(f"distill.rollouts: {error}") from error
        except PolicyError as error:
            raise ServiceError(
                f"no rollouts: {error}. Run the same command again to resume from the newest checkpoint, or set "
                "distill.rollouts to transformers"
            ) from error

    def _attempt(
        self, model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # returns the training's cached memory to the engine
        if self._policy is None:
            self._policy = self._load()
        self._sync(self._policy, model)
        completions = self._policy.generate_ids(prompts, seeds, sampling)
        self._policy.pause()
        return [list(completion.response_ids) for completion in completions]

    def _sync(self, policy: StudentPolicy, model: Any) -> None:
        """Sends the weights unless the engine has them; decided by their digest, not by the step number."""
        weights = current_weights(model)
        if not is_lora(model):
            weights = {name: tensor.to(self._dtype) for name, tensor in weights.items()}
        digest = weights_digest(weights)
        if digest == self._digest:
            return
        old = self._weights_folder(self._digest) if self._digest else None
        self._digest = None
        shutil.rmtree(self._weights_folder(digest), ignore_errors=True)
        write_weights(model, weights, self._weights_folder(digest))
        policy.load_weights(self._weights_folder(digest))
        self._digest = digest
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def _weights_folder(self, digest: str) -> Path:
        return self._folder / f"weights_{digest}"

    def _shut_down(self) -> None:
        if self._policy is not None:  # of several processes one has it
            self._policy.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        self._policy = self._digest = None

    def close(self) -> None:
        """Shuts the engine down, or puts it to sleep where another stage can use it, and removes its weight files."""
        self._shut_down()


@dataclass(frozen=True)
class EngineSampler(Sampler):
    """Generates responses with an engine instead of the model itself, from the same distribution."""

    engine: StudentEngine

    def roll_out(self, model: Any, samples: Sequence[Sample], prefilled: ReadPrefixes = tuple) -> list[Rollout]:
        """As `Sampler.roll_out`; the engine caches prefixes itself. Raises as `StudentEngine.generate`."""
        prompts, seeds = [sample.prompt for sample in samples], [sample.seed for sample in samples]
        responses = self.engine.generate(model, prompts, seeds, self.sampling)
        return [Rollout.of(*pair, self.tokens) for pair in zip(samples, responses, strict=True)]

    def close(self) -> None:
        """Shuts the engine down."""
        self.engine.close()


def make_sampler(model: ModelConfig, start: str, config: DistillConfig, tokens: Tokens, workdir: Path) -> Sampler:
    """The sampler that `distill.rollouts` names. An engine starts at the first prompt.

    Args:
        model: how the model is loaded, and the settings of engine or server.
        start: checkpoint at the round's start.
        config: the distillation's settings.
        tokens: padding and stop tokens of the student.
        workdir: of the distillation; weight files are written below it.

    Raises:
        ConfigError: the settings contradict each other.
        PolicyError: vLLM is not installed.
    """
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_response_tokens)
    if config.rollouts == "transformers":
        return Sampler(sampling, tokens, model.batch_size, prefix_cache_tokens=model.prefix_cache_tokens)
    served = rollout_model(model, config)
    check_backend(served)
    engine = StudentEngine(lambda: _load(start, served, tokens), workdir / ".rollouts", getattr(torch, model.dtype))
    return EngineSampler(sampling, tokens, model.batch_size, engine)


def _load(start: str, served: ModelConfig, tokens: Tokens) -> StudentPolicy:
    policy: Any
    if served.backend == "vllm":
        from oel_core.policies.vllm.policy import VllmPolicy

        policy = VllmPolicy.load(start, served)
    else:
        from oel_core.policies.openai.policy import OpenAIPolicy

        policy = OpenAIPolicy.load(start, served)
    try:
        _require_fit(policy, served, tokens)
    except ConfigError:
        policy.close()
        raise
    loaded: StudentPolicy = policy
    return loaded


def _require_fit(policy: Any, served: ModelConfig, tokens: Tokens) -> None:
    """Raises ConfigError where a server returns no token ids, or an engine has other stop tokens than the student."""
    if served.backend == "openai" and (policy.abilities.api != "completions" or not policy.abilities.gives_ids):
        raise ConfigError(f"distill.rollouts needs token ids in and out, but this is {policy.abilities.describe()}")
    if policy.stops != tokens.stops:
        raise ConfigError(f"the student's end tokens are {sorted(tokens.stops)}, the engine's {sorted(policy.stops)}")
