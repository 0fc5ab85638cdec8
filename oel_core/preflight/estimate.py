"""What a run will need, from its configuration alone: model calls, tokens, memory and disk, stage by stage.

Everything here is a pure formula and errs on the high side: episodes last all their turns, responses run to their
cap, prompts grow by the recipe's 512 tokens a turn. Memory is the peak of one stage on one device, for the
transformers backend; a slow test holds it to within a factor of two of what is measured on small models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from oel_core.config.distill import CHUNK_BYTES
from oel_core.config.run import OelConfig
from oel_core.models.architectures import Architecture

OBSERVATION_TOKENS: Final = 512
"""The recipe's allowance for what one turn adds to a prompt (arXiv 2603.16856)."""
IFEVAL_PROMPTS: Final = 541
CODE_PROBLEMS: Final = 40
"""Of the suite `python_code`."""
_BYTES: Final = {"float32": 4, "bfloat16": 2}
_TEXT_BYTES: Final = 5
"""Bytes on disk of one token as text."""
_ID_BYTES: Final = 8
"""Bytes on disk of one recorded token id."""
_SAMPLING_COPIES: Final = 24
"""Bytes a vocabulary entry while a token is drawn: logits, float32 copies, probabilities, a float64 sum."""
_LOSS_COPIES: Final = 36
"""Bytes a vocabulary entry and response token in the loss: logits of both sides, scaled copies, entropy, gradients."""


@dataclass(frozen=True)
class StageNeed:
    """What one stage needs, at most."""

    stage: str
    rounds: int
    """Times it runs in the whole run; the other figures are of one time."""
    calls: int
    """Prompts that the model answers."""
    prompt_tokens: int
    response_tokens: int
    memory: int | None
    """Bytes of the model's device at the peak; None where the architecture is not known."""
    disk: int
    """Bytes that stay on the disk."""


@dataclass(frozen=True)
class _Calls:
    """Prompts of one kind."""

    count: int
    prompt: int
    """Most tokens of one of them."""
    prompts: int
    """Tokens of all of them."""
    response: int
    """Most tokens of one answer."""
    together: int
    """Of these prompts, how many could be answered at once; `model.batch_size` may be less."""


def turn_prompts(config: OelConfig, max_turns: int, knowledge: int, response: int) -> list[int]:
    """Most prompt tokens of each turn of an episode, cut at what the model can read."""
    seen = config.play.history_turns
    most = config.model.max_length - response
    visible = [turn if seen is None else min(turn, seen + 1) for turn in range(1, max_turns + 1)]
    return [min(most, knowledge + OBSERVATION_TOKENS * turns) for turns in visible]


def _episodes(config: OelConfig, episodes: int, max_turns: int, knowledge: int, response: int) -> _Calls:
    turns = turn_prompts(config, max_turns, knowledge, response)
    return _Calls(episodes * max_turns, max(turns), episodes * sum(turns), response, episodes)


def _extraction(config: OelConfig) -> _Calls:
    """Each episode is read once, whole; replicas side by side, where the knowledge so far is shown one of each."""
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
    """The answers that are learnt from: the student's, or those of a teacher that reads knowledge."""
    turns = min(config.environment.max_turns, config.distill.turns_per_episode or config.environment.max_turns)
    episodes = config.distill.steps * config.distill.episodes_per_step
    known = config.knowledge_cap if config.distill.regime in ("teacher_rollouts", "mixture") else 0
    one = turn_prompts(config, config.environment.max_turns, known, config.distill.max_response_tokens)
    return _Calls(
        episodes * turns,
        max(one),
        episodes * sum(one[-turns:]),
        config.distill.max_response_tokens,
        config.distill.episodes_per_step * turns,
    )


def _suite(config: OelConfig, name: str, options: Mapping[str, Any]) -> _Calls:
    """An out-of-distribution suite; one that does not say how large it is counts as 128 episodes."""
    count = options.get("episodes") or options.get("subset")
    if name == "ifeval":
        response = int((options.get("sampling") or {}).get("max_tokens", 1280))
        asked = int(count or IFEVAL_PROMPTS)
        return _Calls(asked, OBSERVATION_TOKENS, asked * OBSERVATION_TOKENS, response, asked)
    if name == "python_code":
        response = int((options.get("sampling") or {}).get("max_tokens", 400))
        asked = int(count or CODE_PROBLEMS)
        return _Calls(asked, OBSERVATION_TOKENS, asked * OBSERVATION_TOKENS, response, asked)
    response = config.evaluate.games.sampling.max_tokens
    turns = int(options.get("max_turns") or config.environment.max_turns)
    return _episodes(config, int(count or 128), turns, 0, response)


def _evaluations(config: OelConfig, round_index: int) -> list[_Calls]:
    games, turns = config.evaluate.games, config.environment.max_turns
    arms = len(games.arms) if round_index else 0
    known = config.knowledge_cap
    own = _episodes(config, games.episodes, turns, 0, games.sampling.max_tokens)
    taught = [_episodes(config, games.episodes, turns, known, games.sampling.max_tokens)] * arms
    return [own, *taught, *(_suite(config, name, options) for name, options in config.evaluate.ood.items())]


def _scoring(config: OelConfig, texts: int, episodes: int) -> list[_Calls]:
    """Validation episodes with each of so many texts in the prompt, and as many without any."""
    turns, response = config.environment.max_turns, config.play.sampling.max_tokens
    return [
        _episodes(config, episodes, turns, 0, response),
        _episodes(config, texts * episodes, turns, config.knowledge_cap, response),
    ]


def _validation(config: OelConfig) -> dict[str, list[_Calls]]:
    """The stages that score knowledge, where they are wanted."""
    selection, saturation = config.knowledge.selection, config.knowledge.saturation
    found = {}
    if saturation.every is not None:
        points = -(-config.collect.extraction_episodes // saturation.every)
        found["saturation"] = _scoring(config, config.collect.replicas * points, saturation.episodes)
    if selection.use != "all":
        found["select"] = _scoring(config, config.collect.replicas, selection.episodes)
    return found


def generation_memory(config: OelConfig, architecture: Architecture, prompt: int, response: int, together: int) -> int:
    """Bytes at the peak of answering `together` prompts in batches.

    Weights, keys and values, and the larger of one layer's values over the prompts and the draw of a token.
    """
    size, batch = _BYTES[config.model.dtype], min(together, config.model.batch_size)
    cache = batch * (prompt + response) * architecture.cache_values * size
    layer = batch * prompt * (2 * architecture.intermediate + 5 * architecture.hidden) * size
    draw = batch * architecture.vocabulary * _SAMPLING_COPIES
    return architecture.parameters * size + cache + max(layer, draw)


def trained_parameters(config: OelConfig, architecture: Architecture) -> int:
    """Parameters that an optimiser step changes."""
    lora = config.model.lora
    return architecture.parameters if lora is None else architecture.adapter_parameters(lora.r, lora.target_modules)


def training_weights(config: OelConfig, architecture: Architecture) -> int:
    """Bytes that a distillation holds throughout.

    Full fine-tuning keeps float32 weights, gradients and two moments, a bfloat16 working copy where the model is in
    bfloat16, and the models beside the student in their own type. Where processes divide it, the working copy and the
    teacher stay whole. An adapter shares its base with the teacher.
    """
    size, trained = _BYTES[config.model.dtype], trained_parameters(config, architecture)
    if config.model.lora is not None:
        return architecture.parameters * size + trained * 16
    if config.distill.sharding == "fsdp2":
        return trained * 16 // config.distill.processes + trained * 2 * size
    narrow = size < 4
    average = 4 if narrow and config.distill.teacher == "ema" else 0
    return trained * (16 + size * (narrow + _frozen_copies(config)) + average)


def _frozen_copies(config: OelConfig) -> int:
    """Models beside the student: its teacher, and the round's start where retention terms need another one."""
    chosen = config.distill
    teacher = chosen.regime != "sft" and chosen.teacher != "live"
    held = chosen.retention.in_context_weight > 0 or chosen.retention.replay is not None
    return teacher + (held and (chosen.regime == "sft" or chosen.teacher != "frozen"))


def training_memory(config: OelConfig, architecture: Architecture) -> int:
    """Bytes at the peak of one micro-batch's backward: weights, what every layer keeps for it, and the loss."""
    size = _BYTES[config.model.dtype]
    response = config.distill.max_response_tokens
    known = config.knowledge_cap if config.distill.retention.in_context_weight else 0
    length = max(turn_prompts(config, config.environment.max_turns, known, response)) + response
    tokens = max(config.distill.micro_batch_tokens, length)
    values = 10 * architecture.hidden + 8 * (architecture.queries + architecture.keys) + 4 * architecture.intermediate
    if config.distill.gradient_checkpointing:  # every layer's input, and one layer's values
        kept = tokens * (architecture.layers * architecture.hidden + values) * size
    else:
        kept = tokens * architecture.layers * values * size
    loss = min(
        tokens * architecture.vocabulary * _LOSS_COPIES, CHUNK_BYTES.get(config.model.device, CHUNK_BYTES["cuda"])
    )
    return training_weights(config, architecture) + _prefixes(config, architecture) + kept + loss


def _prefixes(config: OelConfig, architecture: Architecture) -> int:
    """Bytes of the knowledge files' keys and values on the device."""
    tokens = config.collect.replicas * config.knowledge_cap
    own = tokens * architecture.cache_values * _BYTES[config.model.dtype]
    return min(own, int(config.distill.prefix_cache_gb * 1e9))


def _distillation_memory(config: OelConfig, architecture: Architecture, calls: _Calls) -> int:
    """The larger of its two halves: the student answers, then it is trained."""
    answering = generation_memory(config, architecture, calls.prompt, calls.response, calls.together)
    own = architecture.parameters * _BYTES[config.model.dtype]
    one = max(training_memory(config, architecture), training_weights(config, architecture) + answering - own)
    return one * (config.distill.processes if config.model.device == "cpu" else 1)  # GPUs have memory of their own


def _records(calls: _Calls) -> int:
    """Bytes of recorded episodes: prompts as text, answers as text and ids."""
    return calls.prompts * _TEXT_BYTES + calls.count * calls.response * (_TEXT_BYTES + _ID_BYTES)


def _checkpoint(config: OelConfig, architecture: Architecture | None) -> int:
    """Bytes of one finished checkpoint; full fine-tuning saves float32."""
    return 0 if architecture is None else trained_parameters(config, architecture) * 4


def transient_disk(config: OelConfig, architecture: Architecture | None) -> int:
    """Bytes of the resumable checkpoints that a distillation keeps while it works: weights and two moments each."""
    return 3 * _checkpoint(config, architecture) * (config.distill.keep_checkpoints + 1)


def estimate(config: OelConfig, architecture: Architecture | None) -> list[StageNeed]:
    """The stages of the whole run in order, each once, with how often it runs."""

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

    played = config.collect.replicas * config.collect.extraction_episodes
    played += config.distill.steps * config.distill.episodes_per_step
    turns, response = config.environment.max_turns, config.play.sampling.max_tokens
    student = _distillation(config)
    memory = None if architecture is None else _distillation_memory(config, architecture, student)
    return [
        generating("evaluate the base model", 1, *_evaluations(config, 0)),
        generating("collect", config.rounds, _episodes(config, played, turns, 0, response)),
        generating("extract", config.rounds, _extraction(config)),
        *(generating(stage, config.rounds, *calls) for stage, calls in _validation(config).items()),
        StageNeed(
            "distill",
            config.rounds,
            student.count,
            student.prompts,
            student.count * student.response,
            memory,
            _checkpoint(config, architecture),
        ),
        generating("evaluate", config.rounds, *_evaluations(config, 1)),
    ]
