"""The decode loop: prompts in, sampled responses out, with nothing of a policy around it.

Rows are padded on the left, answered in one batch, and leave the batch in halves as they finish. Student rollouts of
the distillation use the same function, so what is trained on is drawn exactly like what is played.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError
from oel_core.models.attention import attention_set_to
from oel_core.policies.hf.grouped_attention import NAME as GROUPED
from oel_core.policies.hf.kv_cache import roomy_cache
from oel_core.policies.sampling import draw, uniforms

WORTH_SHARING = 8
"""Shared leading tokens from which on reading them apart is cheaper than reading them in every row."""
_NOT_FINITE = "the model's logits are not finite: its weights are damaged, or its dtype is too narrow"


@dataclass
class _Live:
    """Decoding state of unfinished sequences.

    Shapes: rows, token (live,), mask (live, whole length), uniform (live, max_tokens).
    """

    rows: torch.Tensor
    """Position of each live row among the prompts."""
    mask: torch.Tensor
    """1 where a key is real; the columns of tokens to come are 1 already and cut off by whoever reads."""
    positions: torch.Tensor
    """Position of the next token of each row, padding not counted."""
    uniform: torch.Tensor
    cache: DynamicCache

    def keep(self, chosen: torch.Tensor) -> None:
        """Drops all rows but `chosen` (indices into the live rows)."""
        self.rows, self.mask = self.rows[chosen], self.mask[chosen]
        self.positions, self.uniform = self.positions[chosen], self.uniform[chosen]
        self.cache.batch_select_indices(chosen)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model without dropout, put back afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (rows, longest prompt) int64, prompts at the right edge."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Leading ids that all prompts have in common, leaving each at least one id of its own."""
    ordered = sorted(map(list, prompts))  # what the first and the last share, all share
    first, last = ordered[0], ordered[-1]
    longest = min(map(len, prompts)) - 1
    return next((at for at in range(longest) if first[at] != last[at]), longest)


def _read_prefix(model: Any, prefix: Sequence[int], rows: int, cache: DynamicCache) -> None:
    """Keys and values of what all rows begin with, computed once and repeated for each row."""
    ids = torch.tensor([list(prefix)], device=model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(rows)


def _prefill(
    model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[int], max_tokens: int, pad_id: int
) -> tuple[torch.Tensor, _Live]:
    """Logits of every row's first response token, (rows, vocabulary), and the state to go on from.

    Padding stands between the shared prefix and a row's own ids, so that all rows end together.
    """
    shared = shared_prefix(prompts) if len(prompts) > 1 else 0
    shared = shared if shared >= WORTH_SHARING else 0
    cache = roomy_cache(model.config, max(map(len, prompts)) + max_tokens)
    if shared:
        _read_prefix(model, prompts[0][:shared], len(prompts), cache)
    ids, mask = (part.to(model.device) for part in pad_left([prompt[shared:] for prompt in prompts], pad_id))
    mask = torch.cat([mask.new_ones(len(prompts), shared), mask], dim=1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions[:, shared:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    if not torch.isfinite(logits).all():
        raise PolicyError(_NOT_FINITE)
    live = _Live(
        rows=torch.arange(len(prompts), device=model.device),
        mask=torch.cat([mask, mask.new_ones(len(prompts), max_tokens)], dim=1),
        positions=positions[:, -1] + 1,
        uniform=torch.from_numpy(uniforms(seeds, max_tokens)).to(model.device),
        cache=cache,
    )
    return logits, live


def _advance(model: Any, live: _Live, token: torch.Tensor) -> torch.Tensor:
    """Feeds one token a row, (live,), and returns the logits of the next, (live, vocabulary)."""
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


@torch.inference_mode()
def sample_responses(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    stop_ids: Collection[int],
    pad_id: int,
) -> list[list[int]]:
    """One response for each prompt; a stop token ends a response and is its last id.

    A row's draws depend on its seed alone. Its logits depend on the batch only through rounding, and the same batch
    gives the same bytes. Prompts must not be empty; a response has 1 to `sampling.max_tokens` ids.

    Raises:
        PolicyError: the model gives logits that are not finite.
    """
    if not prompt_ids:
        return []
    with evaluating(model), attention_set_to(model, GROUPED, instead_of="sdpa"):
        logits, live = _prefill(model, prompt_ids, seeds, sampling.max_tokens, pad_id)
        drawn = torch.full((len(prompt_ids), sampling.max_tokens), -1, device=model.device)
        stops = torch.tensor(sorted(stop_ids), device=model.device)
        talking = torch.ones(len(prompt_ids), dtype=torch.bool, device=model.device)
        for step in range(sampling.max_tokens):
            broken = talking & ~logits[:, 0].isfinite()  # a state that is not finite spoils all of its logits
            token = draw(logits, live.uniform[:, step], sampling)
            drawn[live.rows[talking], step] = token[talking]
            talking &= ~torch.isin(token, stops)
            still, spoilt = torch.stack([talking.sum(), broken.sum()]).tolist()
            if spoilt:
                raise PolicyError(_NOT_FINITE)
            if still == 0 or step == sampling.max_tokens - 1:
                break
            if 2 * still <= len(talking):  # copying the cache costs about one step, so drop rows in halves
                chosen = talking.nonzero()[:, 0]
                live.keep(chosen)
                token, talking = token[chosen], talking[chosen]
            logits = _advance(model, live, token)
    return [[token for token in row if token >= 0] for row in drawn.tolist()]
