"""Constrained decoding to a regular expression. The only module that imports llguidance.

llguidance (MIT, https://github.com/guidance-ai/llguidance) matches the expression against the bytes of the tokens, so
token boundaries need not coincide with parts of the expression. Its syntax is that of Rust's regex crate: no
look-around, no back-references.
"""

from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from oel_core.errors import ConfigError, PolicyError

INSTALL = "pip install 'oel[constrained]'"


def check_installed() -> None:
    """Raises PolicyError with the command to install llguidance if it is missing. Imports nothing."""
    if find_spec("llguidance") is None:
        raise PolicyError(f"extract.constrained needs llguidance: {INSTALL}, or set it to off")


def check_shape(shape: str) -> None:
    """Raises ConfigError for an expression that llguidance rejects, PolicyError if it is not installed."""
    check_installed()
    from llguidance import LLMatcher

    problem = LLMatcher.validate_grammar(LLMatcher.grammar_from_regex(shape))
    if problem:
        raise ConfigError(f"extract.item_shape: it cannot constrain an answer: {' '.join(problem.split())}")


class Constraints:
    """Creates the `Constraint` of each batch for one model.

    Args:
        tokenizer: the model's fast tokenizer.
        stops: token ids that end a response; allowed once the expression matches.
        vocabulary: V, the width of the logits.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Collection[int], vocabulary: int) -> None:
        """Raises PolicyError if llguidance is not installed or does not support the tokenizer."""
        check_installed()
        from llguidance.hf import from_tokenizer

        try:
            # it rejects slow tokenizers itself
            self._tokens: Any = from_tokenizer(cast(Any, tokenizer), n_vocab=vocabulary, eos_token=sorted(stops))
        except ValueError as error:
            raise PolicyError(
                f"llguidance cannot read this model's tokenizer ({error}): set extract.constrained to off"
            ) from error

    def begin(self, shapes: Sequence[str | None]) -> "Constraint | None":
        """The state of a batch before its first token; None if no row has a shape. Raises as `check_shape`."""
        if not any(shape is not None for shape in shapes):
            return None
        for shape in {shape for shape in shapes if shape is not None}:
            check_shape(shape)
        return Constraint(self._tokens, shapes)


class Constraint:
    """The allowed next tokens of each row of a batch.

    Args:
        tokens: llguidance's tokenizer.
        shapes: a regular expression per row, None for an unconstrained row.
    """

    def __init__(self, tokens: Any, shapes: Sequence[str | None]) -> None:
        from llguidance import LLMatcher

        grammars = [None if shape is None else LLMatcher.grammar_from_regex(shape) for shape in shapes]
        self._matchers = [None if grammar is None else LLMatcher(tokens, grammar) for grammar in grammars]
        self._stops = frozenset(tokens.eos_tokens)
        self._words = -(-tokens.vocab_size // 32)

    def masked(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The logits with -inf for every token that the shape does not allow next.

        Args:
            logits: of the next token, (len(rows), vocabulary).
            rows: index of each row in the batch.

        Raises:
            PolicyError: the vocabulary has no token that continues a response within its shape.
        """
        bits = np.full((len(rows), self._words), -1, dtype="<i4")
        for index, row in enumerate(rows):
            matcher = self._matchers[row]
            if matcher is None:
                continue
            bits[index] = np.frombuffer(matcher.compute_bitmask(), dtype="<i4")
            _check_going(matcher)
        allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : logits.shape[-1]]
        return logits.masked_fill(torch.from_numpy(allowed == 0).to(logits.device), float("-inf"))

    def advance(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Updates the state by the token sampled for each row; after an end token a row is unconstrained.

        Raises:
            PolicyError: llguidance fails, for example because the expression's automaton grows too large.
        """
        for row, token in zip(rows, tokens, strict=True):
            matcher = self._matchers[row]
            if matcher is None:
                continue
            if token in self._stops:
                self._matchers[row] = None
            else:
                matcher.consume_token(token)
                _check_going(matcher)


def _check_going(matcher: Any) -> None:
    """Raises PolicyError if llguidance has failed: its mask then allows an end token, which may violate the shape."""
    if matcher.is_error():
        raise PolicyError(
            f"extract.constrained: llguidance cannot go on with an answer ({matcher.stop_reason()}). The model's "
            "vocabulary may lack a character that the shape demands: set it to off, or another extract.item_shape"
        )
