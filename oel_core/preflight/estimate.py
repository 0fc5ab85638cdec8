"""Upper estimates of model calls, tokens, memory and disk of each stage, from the configuration alone.

Assumptions: episodes use all their turns, responses reach their cap, prompts grow by the recipe's 512 tokens a turn.
Memory is the peak of one stage on one device, for the transformers backend; a slow test compares it with measurements
on small models, within a factor of two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from oel_core.config.distill import CHUNK_BYTES
from oel_core.config.run import OelConfig
from oel_core.models.architectures import Architecture

OBSERVATION_TOKENS: Final = 512
"""The recipe's allowance for what one turn adds to a prompt (arXiv 2603.16856)."""
QUESTIONS: Final = {"ifeval": (541, 1280), "python_code": (40, 400)}
"""Suite of single questions: how many there are, and the maximum response tokens, where its options name none."""
_BYTES: Final = {"float32": 4, "bfloat16": 2}
_TEXT_BYTES: Final = 5
"""Bytes on disk of one token as text."""
_ID_BYTES: Final = 8
"""Bytes on disk of one recorded token id."""
_SAMPLING_COPIES: Final = 24
"""Bytes per vocabulary entry in sampling: logits, float32 copies, probabilities, a float64 sum."""
_LOSS_COPIES: Final = 36
"""Bytes per vocabulary entry and response token in the loss: both logits, scaled copies, entropy, gradients."""


@dataclass(frozen=True)
class StageNeed:
    """Upper estimate of one stage's needs."""

    stage: str
    rounds: int
    """Number of executions in the whole run; the other figures are per execution."""
    calls: int
    """Completions."""
    prompt_tokens: int
    response_tokens: int
    memory: int | None
    """Peak memory of the model's device, bytes; None where the architecture is unknown."""
    disk: int
    """Size of the outputs, bytes."""


@dataclass(frozen=True)
class _Calls:
    """Prompts of one kind."""

    count: int
    prompt: int
    """Maximum prompt length, tokens."""
    prompts: int
    """Total prompt tokens."""
    response: int
    """Maximum response length, tokens."""
    together: int
    """Number of concurrent prompts; `model.batch_size` may be smaller."""


def turn_prompts(config: OelConfig, max_turns: int, knowledge: int, response: int) -> list[int]:
    """Maximum prompt tokens of each turn of an episode, capped at the context window."""
    seen = config.play.history_turns
    most = config.model.max_length - response
    visible = [turn if seen is None else min(turn, seen + 1) for turn in range(1, max_turns + 1)]
    return [min(most, knowledge + OBSERVATION_TOKENS * turns) for turns in visible]


def _episodes(config: OelConfig, episodes: int, max_turns: int, knowledge: int, response: int) -> _Calls:
    turns = turn_prompts(config, max_turns, knowledge, response)
    return _Calls(episodes * max_turns, max(turns), episodes * sum(turns), response, episodes)


def _extraction(config: OelConfig) -> _Calls:
    """One call per episode, with the whole episode; one concurrent call per replica where earlier items are shown."""
    shown = min(config.environment.max_turns, config.extract.turns_shown or config.environment.max_turns)
    known = config.knowledge.max_tokens if config.extract.with_previous else 0
    response = config.extract.sampling.max_tokens
    prompt = min(
        config.model.max_length - response, known + shown * (OBSERVATION_TOKENS + config.play.sampling.max_tokens)
    )
    replicas = config.collect.replicas
    count = replicas * config.collect.extraction_episodes
    return _Calls(count, prompt, count * prompt, response, replicas if config.extract.with_previous else count)


def _distillation(config: OelConfig) -> _Calls:
    """The rollouts of a distillation: the student's, or the teacher's with knowledge."""
    turns = min(config.environment.max_turns, config.distill.turns_per_episode or config.environment.max_turns)
    episodes = config.distill.steps * config.distill.episodes_per_step
    by_teacher = config.distill.regime in ("teacher_rollouts", "mixture")
    known = config.injected_cap if by_teacher else 0
    steps_at_once = config.distill.steps if by_teacher and config.distill.teacher == "frozen" else 1
    one = turn_prompts(config, config.environment.max_turns, known, config.distill.max_response_tokens)
    return _Calls(
        episodes * turns,
        max(one),
        episodes * sum(one[-turns:]),
        config.distill.max_response_tokens,
        steps_at_once * config.distill.episodes_per_step * turns,
    )


def _questions(count: int, knowledge: int, response: int) -> _Calls:
    prompt = OBSERVATION_TOKENS + knowledge
    return _Calls(count, prompt, count * prompt, response, count)


def _suite(config: OelConfig, name: str, options: Mapping[str, Any]) -> _Calls:
    """An out-of-distribution suite; 128 episodes where its size is unknown."""
    count = options.get("episodes") or options.get("subset")
    if name in QUESTIONS:
        questions, tokens = QUESTIONS[name]
        response = int((options.get("sampling") or {}).get("max_tokens", tokens))
        return _questions(int(count or questions), 0, response)
    response = config.evaluate.games.sampling.max_tokens
    turns = int(options.get("max_turns") or config.environment.max_turns)
    return _episodes(config, int(count or 128), turns, 0, response)


def _evaluations(config: OelConfig, round_index: int) -> list[_Calls]:
    suites = [_suite(config, name, options) for name, options in config.evaluate.ood.items()]
    if config.experience.bundle is not None:
        return suites
    known = config.injected_cap
    if config.evaluate.held_out == "cases":
        cases = config.evaluate.cases
        asked = _questions(cases.episodes, 0, cases.sampling.max_tokens)
        informed = _questions(cases.episodes, known, cases.sampling.max_tokens)
        return [asked, *([asked, *[informed] * len(cases.arms)] if round_index else []), *suites]
    games, turns = config.evaluate.games, config.environment.max_turns
    arms = len(games.arms) if round_index else 0
    own = _episodes(config, games.episodes, turns, 0, games.sampling.max_tokens)
    taught = [_episodes(config, games.episodes, turns, known, games.sampling.max_tokens)] * arms
    return [own, *taught, *suites]


def _scoring(config: OelConfig, texts: int, episodes: int) -> list[_Calls]:
    """Validation episodes with each of `texts` knowledge texts in the prompt, and once without."""
    if config.evaluate.held_out == "cases":
        response = config.evaluate.cases.sampling.max_tokens
        return [_questions(episodes, 0, response), _questions(texts * episodes, config.injected_cap, response)]
    turns, response = config.environment.max_turns, config.play.sampling.max_tokens
    return [
        _episodes(config, episodes, turns, 0, response),
        _episodes(config, texts * episodes, turns, config.injected_cap, response),
    ]


def _validation(config: OelConfig) -> dict[str, list[_Calls]]:
    """The stages that score knowledge, where enabled."""
    selection, saturation = config.knowledge.selection, config.knowledge.saturation
    found = {}
    if saturation.every is not None:
        points = -(-config.collect.extraction_episodes // saturation.every)
        found["saturation"] = _scoring(config, config.collect.replicas * points, saturation.episodes)
    if selection.use != "all":
        found["select"] = _scoring(config, config.collect.replicas, selection.episodes)
    return found


def generation_memory(config: OelConfig, architecture: Architecture, prompt: int, response: int, together: int) -> int:
    """Peak memory of generation for `together` prompts in batches, bytes.

    Weights, KV cache, and the larger of one layer's activations in prefill and the sampling of a token.
    """
    size, batch = _BYTES[config.model.dtype], min(together, config.model.batch_size)
    cache = batch * (prompt + response) * architecture.cache_values * size
    layer = batch * prompt * (2 * architecture.intermediate + 5 * architecture.hidden) * size
    draw = batch * architecture.vocabulary * _SAMPLING_COPIES
    return architecture.parameters * size + cache + max(layer, draw)


def trained_parameters(config: OelConfig, architecture: Architecture) -> int:
    """Number of trainable parameters."""
    lora = config.model.lora
    return architecture.parameters if lora is None else architecture.adapter_parameters(lora.r, lora.target_modules)


def training_weights(config: OelConfig, architecture: Architecture) -> int:
    """Memory of weights and optimizer state in a distillation, bytes.

    Full fine-tuning: float32 weights, gradients and two moments, a bfloat16 copy where the model is in bfloat16, and
    the frozen models in their own dtype. With sharding, the bfloat16 copy and the teacher stay unsharded. LoRA shares
    the base model with the teacher.
    """
    size, trained = _BYTES[config.model.dtype], trained_parameters(config, architecture)
    if config.model.lora is not None:
        return architecture.parameters * size + trained * 16
    if config.distill.sharding == "fsdp2":
        return trained * 16 // (config.distill.processes * config.distill.nodes) + trained * 2 * size
    narrow = size < 4
    average = 4 if narrow and config.distill.teacher == "ema" else 0
    return trained * (16 + size * (narrow + _frozen_copies(config)) + average)


def _frozen_copies(config: OelConfig) -> int:
    """Number of frozen copies: the teacher, and a reference model where retention terms need another one."""
    chosen = config.distill
    teacher = chosen.regime != "sft" and chosen.teacher != "live"
    return teacher + (chosen.retention.has_reference and (chosen.regime == "sft" or chosen.teacher != "frozen"))


def training_memory(config: OelConfig, architecture: Architecture) -> int:
    """Peak memory of one micro-batch's backward, bytes: weights, activations of every layer, and the loss."""
    size = _BYTES[config.model.dtype]
    response = config.distill.max_response_tokens
    known = config.injected_cap if config.distill.retention.reads_knowledge else 0
    length = max(turn_prompts(config, config.environment.max_turns, known, response)) + response
    tokens = max(config.distill.micro_batch_tokens, length)
    values = 10 * architecture.hidden + 8 * (architecture.queries + architecture.keys) + 4 * architecture.intermediate
    if config.distill.activation_offload:  # one layer's activations; the others are in host memory
        kept = tokens * values * size
    elif config.distill.gradient_checkpointing:  # every layer's input, and one layer's activations
        kept = tokens * (architecture.layers * architecture.hidden + values) * size
    else:
        kept = tokens * architecture.layers * values * size
    loss = min(
        tokens * architecture.vocabulary * _LOSS_COPIES, CHUNK_BYTES.get(config.model.device, CHUNK_BYTES["cuda"])
    )
    return training_weights(config, architecture) + _prefixes(config, architecture) + kept + loss


def _prefixes(config: OelConfig, architecture: Architecture) -> int:
    """Size of the knowledge files' KV caches on the device, bytes."""
    tokens = config.collect.replicas * config.injected_cap
    own = tokens * architecture.cache_values * _BYTES[config.model.dtype]
    return min(own, int(config.distill.prefix_cache_gb * 1e9))


def _distillation_memory(config: OelConfig, architecture: Architecture, calls: _Calls) -> int:
    """The larger of the peaks of rollouts and training."""
    answering = generation_memory(config, architecture, calls.prompt, calls.response, calls.together)
    own = architecture.parameters * _BYTES[config.model.dtype]
    one = max(training_memory(config, architecture), training_weights(config, architecture) + answering - own)
    return one * (config.distill.processes if config.model.device == "cpu" else 1)  # each GPU has its own memory


def _records(calls: _Calls) -> int:
    """Size of recorded episodes, bytes: prompts as text, responses as text and token ids."""
    return calls.prompts * _TEXT_BYTES + calls.count * calls.response * (_TEXT_BYTES + _ID_BYTES)


def _checkpoint(config: OelConfig, architecture: Architecture | None) -> int:
    """Size of one final checkpoint, bytes; full fine-tuning saves float32."""
    if architecture is None:
        return 0
    if config.model.lora is not None and config.model.lora.merge:
        return architecture.parameters * _BYTES[config.model.dtype]
    return trained_parameters(config, architecture) * 4


def transient_disk(config: OelConfig, architecture: Architecture | None) -> int:
    """Size of the resumable checkpoints during a distillation, bytes: float32 weights and two moments each."""
    trained = 0 if architecture is None else trained_parameters(config, architecture)
    return 3 * 4 * trained * (config.distill.keep_checkpoints + 1)


def estimate(config: OelConfig, architecture: Architecture | None) -> list[StageNeed]:
    """The stages of the whole run in order, each once, with its number of executions."""

    def generating(stage: str, rounds: int, *kinds: _Calls, records: bool = True) -> StageNeed:
        memory = None
        if architecture is not None:
            memory = max(
                generation_memory(config, architecture, kind.prompt, kind.response, kind.together) for kind in kinds
            )
        return StageNeed(
            stage,
            rounds,
            sum(kind.count for kind in kinds),
            sum(kind.prompts for kind in kinds),
            sum(kind.count * kind.response for kind in kinds),
            memory,
            sum(map(_records, kinds)) if records else 0,
        )

    student = _distillation(config)
    memory = None if architecture is None else _distillation_memory(config, architecture, student)
    training = StageNeed(
        "distill",
        config.rounds,
        student.count,
        student.prompts,
        student.count * student.response,
        memory,
        _checkpoint(config, architecture),
    )
    measured = _evaluations(config, 0)
    return [
        *([generating("evaluate the base model", 1, *measured)] if measured else []),
        *(generating(stage, config.rounds, *calls) for stage, calls in _learning(config).items()),
        training,
        *([generating("evaluate", config.rounds, *_evaluations(config, 1))] if measured else []),
    ]


def _learning(config: OelConfig) -> dict[str, list[_Calls]]:
    """The stages that generate before the distillation; with a bundle only prompts may be generated."""
    if config.experience.bundle is not None:
        count, response = config.experience.synthesis.prompts, config.experience.synthesis.sampling.max_tokens
        return {"receive": [_Calls(count, OBSERVATION_TOKENS, count * OBSERVATION_TOKENS, response, count)]}
    played = config.collect.replicas * config.collect.extraction_episodes
    played += config.distill.steps * config.distill.episodes_per_step
    turns, response = config.environment.max_turns, config.play.sampling.max_tokens
    return {
        "collect": [_episodes(config, played, turns, 0, response)],
        "extract": [_extraction(config)],
        **_validation(config),
    }
