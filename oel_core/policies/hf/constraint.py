"""Decoding constrained to a regular expression, token by token. The only module that imports llguidance.

llguidance (MIT, https://github.com/guidance-ai/llguidance) runs the expression over the bytes of the vocabulary's
tokens, so a response matches whatever the weights are, and no token need end where a part of the expression does. Its
expressions are those of Rust's regex crate: no look-around, no back-references.
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
    """Raises PolicyError that says what to do when llguidance is not installed. Imports nothing."""
    if find_spec("llguidance") is None:
        raise PolicyError(f"extract.constrained needs llguidance: {INSTALL}, or set it to off")


def check_shape(shape: str) -> None:
    """Raises ConfigError for an expression that llguidance refuses, PolicyError where it is not installed."""
    check_installed()
    from llguidance import LLMatcher

    problem = LLMatcher.validate_grammar(LLMatcher.grammar_from_regex(shape))
    if problem:
        raise ConfigError(f"extract.item_shape: it cannot constrain an answer: {' '.join(problem.split())}")


class Constraints:
    """A `Constraint` for each batch, of one model's vocabulary.

    Args:
        tokenizer: the model's, a fast one.
        stops: token ids that end a response; they are allowed where the expression may end.
        vocabulary: V, the width of the logits.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Collection[int], vocabulary: int) -> None:
        """Raises PolicyError where llguidance is not installed, or does not know this kind of tokenizer."""
        check_installed()
        from llguidance.hf import from_tokenizer

        try:
            # it refuses a tokenizer that is not a fast one itself
            self._tokens: Any = from_tokenizer(cast(Any, tokenizer), n_vocab=vocabulary, eos_token=sorted(stops))
        except ValueError as error:
            raise PolicyError(
                f"llguidance cannot read this model's tokenizer ({error}): set extract.constrained to off"
            ) from error

    def begin(self, shapes: Sequence[str | None]) -> "Constraint | None":
        """The state of a batch before its first token; None where no row has a shape. Raises as `check_shape`."""
        if not any(shape is not None for shape in shapes):
            return None
        for shape in {shape for shape in shapes if shape is not None}:
            check_shape(shape)
        return Constraint(self._tokens, shapes)


class Constraint:
    """What each row of a batch may draw next.

    Args:
        tokens: llguidance's view of the vocabulary.
        shapes: a regular expression for each row, None for one that may draw anything.
    """

    def __init__(self, tokens: Any, shapes: Sequence[str | None]) -> None:
        from llguidance import LLMatcher

        grammars = [None if shape is None else LLMatcher.grammar_from_regex(shape) for shape in shapes]
        self._matchers = [None if grammar is None else LLMatcher(tokens, grammar) for grammar in grammars]
        self._stops = frozenset(tokens.eos_tokens)
        self._words = -(-tokens.vocab_size // 32)

    def masked(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The logits with -inf at every token that would leave the shape.

        Args:
            logits: next tokens, (len(rows), vocabulary).
            rows: position of each among the batch's shapes.

        Raises:
            PolicyError: the vocabulary has no token with which a response could go on within its shape.
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
        """Takes the token that each row has drawn; an end token frees its row.

        Raises:
            PolicyError: llguidance gives up, as on an expression whose automaton grows too large.
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
    """Raises PolicyError where llguidance has given up: it then allows an end token, which would break the shape."""
    if matcher.is_error():
        raise PolicyError(
            f"extract.constrained: llguidance cannot go on with an answer ({matcher.stop_reason()}). The model's "
            "vocabulary may lack a character that the shape demands: set it to off, or another extract.item_shape"
        )
