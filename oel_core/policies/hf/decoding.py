"""The decode loop: prompts in, sampled responses out.

Prompts are left-padded and decoded in one batch, which is halved as sequences finish. Student rollouts of the
distillation use the same function, so training samples and played responses have the same distribution.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError
from oel_core.models.attention import attention_set_to
from oel_core.policies.base import Watch
from oel_core.policies.hf.constraint import Constraint
from oel_core.policies.hf.grouped_attention import NAME as GROUPED
from oel_core.policies.hf.prefill import NOT_FINITE, Prefilled, cached_rows, prefill
from oel_core.policies.hf.prefix_cache import PrefillCache, PrefixCache
from oel_core.policies.sampling import sample_tokens, uniforms


@dataclass
class _DecodingState:
    """Decoding state of unfinished sequences.

    Shapes: rows, token (live,), mask (live, whole length), uniform (live, max_tokens).
    """

    rows: torch.Tensor
    """Index of each unfinished sequence among the prompts."""
    mask: torch.Tensor
    """1 where a key is real; columns of future tokens are already 1 and are cut off by the reader."""
    positions: torch.Tensor
    """Position id of the next token of each row, without padding."""
    uniform: torch.Tensor
    cache: DynamicCache

    @property
    def can_shrink(self) -> bool:
        """Whether rows can be dropped; transformers does not support that for recurrent states."""
        return all(hasattr(layer, "batch_select_indices") for layer in self.cache.layers)

    def keep(self, chosen: torch.Tensor) -> None:
        """Drops all rows except `chosen` (indices into the live rows)."""
        self.rows, self.mask = self.rows[chosen], self.mask[chosen]
        self.positions, self.uniform = self.positions[chosen], self.uniform[chosen]
        self.cache.batch_select_indices(chosen)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode during the block; restores the previous mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _start(read: Prefilled, seeds: Sequence[int], max_tokens: int) -> _DecodingState:
    """The state of a prefilled batch, with all sequences unfinished."""
    rows, device = len(read.mask), read.mask.device
    return _DecodingState(
        rows=torch.arange(rows, device=device),
        mask=torch.cat([read.mask, read.mask.new_ones(rows, max_tokens)], dim=1),
        positions=read.positions,
        uniform=torch.from_numpy(uniforms(seeds, max_tokens)).to(device),
        cache=read.cache,
    )


def _advance(model: Any, live: _DecodingState, token: torch.Tensor) -> torch.Tensor:
    """Forwards one token per row, (live,), and returns the next logits, (live, vocabulary)."""
    known = live.cache.get_seq_length() + 1
    logits: torch.Tensor = model(
        input_ids=token[:, None],
        attention_mask=live.mask[:, :known],
        position_ids=live.positions[:, None],
        past_key_values=live.cache,
        use_cache=True,
    ).logits[:, -1]
    live.positions = live.positions + 1
    return logits


def _ids(drawn: torch.Tensor) -> list[list[int]]:
    """The responses so far; -1 for tokens that are not sampled yet."""
    return [[token for token in row if token >= 0] for row in drawn.tolist()]


def _cache_ended(
    held: PrefixCache,
    live: _DecodingState,
    ended: torch.Tensor,
    prompts: Sequence[tuple[int, ...]],
    drawn: torch.Tensor,
) -> None:
    """Caches keys and values of the live rows `ended` (indices); `prompts` and `drawn` are the whole batch's."""
    if not held.capacity:
        return
    responses = _ids(drawn[live.rows[ended]])
    sequences = [(*prompts[row], *response) for row, response in zip(live.rows[ended].tolist(), responses, strict=True)]
    fed = live.mask[:, : live.cache.get_seq_length()]
    for sequence in cached_rows(live.cache, fed, ended.tolist(), sequences):
        held.put(sequence)


@torch.inference_mode()
def sample_responses(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    stop_ids: Collection[int],
    pad_id: int,
    held: PrefillCache | None = None,
    watch: Watch | None = None,
    constraint: Constraint | None = None,
) -> list[list[int]]:
    """One response for each prompt; a stop token ends a response and is its last id.

    Sampling of a row depends on its seed alone. Its logits depend on the batch and on `held.sequences` only through
    rounding, and the same of both gives the same bytes. Prompts must not be empty; a response has 1 to
    `sampling.max_tokens` ids.

    Args:
        held: keys and values computed earlier with these weights; those of this batch are added.
        watch: sees the tokens as they are sampled, and may end a response before its stop token.
        constraint: restricts the tokens of each row; None: no restriction.

    Raises:
        PolicyError: the model's logits are not finite, or as `Constraint`.
    """
    if not prompt_ids:
        return []
    prompts, held = [tuple(prompt) for prompt in prompt_ids], held or PrefillCache()
    room = max(map(len, prompts)) + sampling.max_tokens
    with evaluating(model), attention_set_to(model, GROUPED, instead_of="sdpa"):
        read = prefill(model, prompts, pad_id, room, held)
        live = _start(read, seeds, sampling.max_tokens)
        hold = partial(_cache_ended, held.sequences, prompts=prompts)
        drawn = _decode(model, read.logits, live, sampling, stop_ids, hold, watch, constraint)
    return _ids(drawn)


def _sample(
    logits: torch.Tensor,
    rows: torch.Tensor,
    uniform: torch.Tensor,
    sampling: Sampling,
    constraint: Constraint | None,
) -> torch.Tensor:
    """As `sample_tokens`, within the constraint. Shapes: rows (live,), positions of the live rows in the batch."""
    if constraint is None:
        return sample_tokens(logits, uniform, sampling)
    token = sample_tokens(constraint.masked(logits, rows.tolist()), uniform, sampling)
    finite = logits[:, 0].isfinite()  # of other rows any token may be sampled; the caller raises
    constraint.advance(rows[finite].tolist(), token[finite].tolist())
    return token


def _decode(
    model: Any,
    logits: torch.Tensor,
    live: _DecodingState,
    sampling: Sampling,
    stop_ids: Collection[int],
    hold: Callable[..., None],
    watch: Watch | None,
    constraint: Constraint | None,
) -> torch.Tensor:
    """Samples and forwards tokens until every row has ended. Returns ids, (rows, max_tokens), -1 after a response.

    Args:
        hold: called with the state, the indices of rows about to be dropped, and the ids sampled so far.
    """
    drawn = torch.full((len(logits), sampling.max_tokens), -1, device=logits.device)
    stops = torch.tensor(sorted(stop_ids), device=logits.device)
    unfinished = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    for step in range(sampling.max_tokens):
        broken = unfinished & ~logits[:, 0].isfinite()  # a state that is not finite spoils all of its logits
        token = _sample(logits, live.rows, live.uniform[:, step], sampling, constraint)
        drawn[live.rows[unfinished], step] = token[unfinished]
        ended = torch.isin(token, stops)
        if watch is not None:
            left = watch(live.rows[unfinished].tolist(), token[unfinished].tolist())
            ended[unfinished] |= torch.tensor(left, device=ended.device)
        unfinished &= ~ended
        still, spoilt = torch.stack([unfinished.sum(), broken.sum()]).tolist()
        if spoilt:
            raise PolicyError(NOT_FINITE)
        if still == 0 or step == sampling.max_tokens - 1:
            break
        # copying the cache costs about one step, so rows are dropped in halves
        if 2 * still <= len(unfinished) and live.can_shrink:
            hold(live=live, ended=(~unfinished).nonzero()[:, 0], drawn=drawn)
            chosen = unfinished.nonzero()[:, 0]
            live.keep(chosen)
            token, unfinished = token[chosen], unfinished[chosen]
        logits = _advance(model, live, token)
    hold(live=live, ended=torch.arange(len(live.rows), device=logits.device), drawn=drawn)
    return drawn
