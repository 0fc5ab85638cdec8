"""Trains the seed model on a synthetic corpus, from scratch or from earlier weights: `oel seed-lm train`.

In stages, because a model trained on the full mixture at once learns to name roles but not to read neighbours: first
acting with knowledge alone, then all three skills. In bfloat16 with float32 weights.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from oel_core.seed_lm.corpus import examples
from oel_core.seed_lm.courses import LAKE, Course, Size, Stage
from oel_core.seed_lm.tokenizer import build_tokenizer

Batch = tuple[torch.Tensor, torch.Tensor]
"""Token ids and loss weights, both [rows, length], padded on the right."""

TOKENS_PER_BATCH = 8192
LENGTH_STEP = 32
PEAK_RATE = 3e-3
STEPS = 6000
EMBEDDINGS = "model.embed_tokens.weight"


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int, size: Size) -> Qwen3ForCausalLM:
    """A Qwen3 of that size, freshly initialised."""
    torch.manual_seed(seed)
    ends = tokenizer.eos_token_id
    config = Qwen3Config(
        vocab_size=math.ceil(len(tokenizer) / 32) * 32,
        hidden_size=size.width,
        intermediate_size=3 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=size.width // 4,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


class _Batches(IterableDataset[Batch]):
    """Endless batches of one skill each, so that rows have similar lengths."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, course: Course, stage: Stage, seed: int, tokens: int
    ) -> None:
        self.tokenizer, self.course, self.stage, self.seed, self.tokens = tokenizer, course, stage, seed, tokens

    def _encode(self, messages: Any, response: str) -> tuple[list[int], list[float]]:
        chat = [message.model_dump() for message in messages]
        prompt = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        prompt_ids = self.tokenizer(prompt)["input_ids"]
        response_ids = [*self.tokenizer(response)["input_ids"], self.tokenizer.eos_token_id]
        return prompt_ids + response_ids, [self.course.prompt_weight] * len(prompt_ids) + [1.0] * len(response_ids)

    def __iter__(self) -> Iterator[Batch]:
        waiting: dict[str, list[tuple[list[int], list[float]]]] = {name: [] for name in self.course.skills}
        for skill, example in examples(self.seed, self.stage.weights, self.course.skills):
            rows = waiting[skill]
            rows.append(self._encode(*example))
            longest = max(len(ids) for ids, _ in rows)
            padded = math.ceil(longest / LENGTH_STEP) * LENGTH_STEP
            if padded * (len(rows) + 1) > self.tokens:
                yield self._pad(rows, padded)
                waiting[skill] = []

    def _pad(self, rows: list[tuple[list[int], list[float]]], length: int) -> Batch:
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows])
        weights = torch.tensor([weights + [0.0] * (length - len(weights)) for _, weights in rows])
        return ids, weights


def _loss(body: Any, head: torch.nn.Linear, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    # Rows are padded on the right and attention is causal, so no mask is needed: padding only looks at real tokens.
    targets, weights = ids[:, 1:], weights[:, 1:]
    counted = weights > 0  # logits are most of a small model's work
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(body(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][counted])
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[counted], reduction="none")
    return (losses * weights[counted]).sum() / weights.sum()


def _rate(progress: float) -> float:
    """Share of the peak learning rate: short warm-up, constant, then linear decay to zero."""
    return min(1.0, progress / 0.02) * min(1.0, (1.0 - progress) / 0.6)


def _batches(tokenizer: PreTrainedTokenizerFast, course: Course, steps: int, seed: int, tokens: int) -> Iterator[Batch]:
    """The batches of all stages in order, prepared in another process."""
    for number, stage in enumerate(course.stages):
        loader = DataLoader(
            _Batches(tokenizer, course, stage, seed + number, tokens), batch_size=None, num_workers=1, prefetch_factor=8
        )
        yield from itertools.islice(loader, round(stage.share * steps))


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, card: dict[str, Any]) -> None:
    """Writes a Hugging Face folder in bfloat16 and a card about its training."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    model.config.dtype = torch.bfloat16
    model.save_pretrained(out, state_dict=state)
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def adopt_weights(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, start: Path, analogues: Mapping[str, str]
) -> None:
    """Copies the weights of an earlier seed model; tokens are matched by their text.

    A new token's row is initialised from its analogue, if it has one.
    """
    older = Qwen3ForCausalLM.from_pretrained(start, dtype=torch.float32)
    ids, older_ids = tokenizer.get_vocab(), PreTrainedTokenizerFast.from_pretrained(start).get_vocab()
    common = sorted(ids.keys() & older_ids.keys())
    embeddings = model.state_dict()[EMBEDDINGS].clone()
    older_rows = older.state_dict()[EMBEDDINGS]
    for token, older_token in analogues.items():
        embeddings[ids[token]] += older_rows[older_ids[older_token]]
    embeddings[[ids[token] for token in common]] = older_rows[[older_ids[token] for token in common]]
    state = older.state_dict() | {EMBEDDINGS: embeddings, "lm_head.weight": embeddings}
    model.load_state_dict(state)


def train(
    out: Path,
    steps: int = STEPS,
    seed: int = 0,
    start: Path | None = None,
    report: Callable[[str], None] = print,
    course: Course = LAKE,
    peak_rate: float = PEAK_RATE,
    batch_tokens: int = TOKENS_PER_BATCH,
) -> dict[str, Any]:
    """Trains for `steps` batches of about `batch_tokens` tokens and writes the model to `out`. Returns its card.

    From scratch, or from the weights of an earlier seed model in `start`, which skips the first stage.
    """
    if start is not None:
        course = replace(course, stages=(replace(course.stages[-1], share=1.0),))
    tokenizer = build_tokenizer(course.phrases)
    model = build_model(tokenizer, seed, course.size)
    if start is not None:
        adopt_weights(model, tokenizer, start, course.analogues)
    body: Any = torch.compile(model.model, dynamic=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    began, tokens, recent = time.monotonic(), 0, math.nan
    stages = [asdict(stage) for stage in course.stages]
    card: dict[str, Any] = {"seed": seed, "parameters": model.num_parameters(), "stages": stages}
    for step, (ids, weights) in enumerate(_batches(tokenizer, course, steps, seed, batch_tokens), start=1):
        loss = _loss(body, model.lm_head, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = peak_rate * _rate(step / steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += ids.numel()
        recent = loss.item() if step == 1 else 0.98 * recent + 0.02 * loss.item()
        if step % 100 == 0 or step == steps:
            seconds = time.monotonic() - began
            report(f"step {step} of {steps}: loss {recent:.4f}, {tokens / seconds:,.0f} tokens/s")
            card |= {"steps": step, "of": steps, "tokens": tokens, "loss": round(recent, 4), "seconds": round(seconds)}
            save(model, tokenizer, out, card)
    return card
