"""Encodes prompts so that only the chat template can write control tokens.

A tokenizer encodes `<|im_end|>` as its special id wherever it occurs. Here a copy of the tokenizer has a random name
for each control token: those of the template are renamed before encoding, those in a message's text are not, so the
copy encodes them as plain text. Everything else is encoded as the tokenizer does for the whole prompt, so prompts
without such tokens in their texts have unchanged ids.
"""

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from oel_core.policies.text.slots import Part

_MARKUP = re.compile(r"<\S*>|\[\S*\]")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""Byte tokens, which encode characters outside the vocabulary and are not control tokens."""


class Encoder(Protocol):
    """Encodes the parts of a prompt."""

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """Token ids; control tokens come from the template's parts only."""
        ...


def structure_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Control tokens: special tokens, and added tokens in the form of markup.

    The latter are not always marked as special (`<think>`, `<tool_call>`). Other added tokens are ordinary words.
    """
    special = set(tokenizer.all_special_tokens)
    return {
        token.content: number
        for number, token in tokenizer.added_tokens_decoder.items()
        if (token.special or token.content in special or _MARKUP.fullmatch(token.content))
        and not _BYTE.fullmatch(token.content)
    }


_encoders: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[dict[str, int], Encoder]] = WeakKeyDictionary()


def encoder_for(tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """The tokenizer's encoder; cached until its tokens change."""
    structure = structure_tokens(tokenizer)
    known = _encoders.get(tokenizer)
    if known is None or known[0] != structure:
        known = (structure, _make(tokenizer, structure))
        _encoders[tokenizer] = known
    return known[1]


def _make(tokenizer: PreTrainedTokenizerBase, structure: dict[str, int]) -> Encoder:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not structure or not isinstance(backend, Tokenizer):
        return _Pieces(tokenizer, structure)
    return _Renamed(backend, structure)


def _pattern(structure: dict[str, int]) -> re.Pattern[str]:
    """Matches control tokens, the longest first, as tokenizers do."""
    return re.compile("|".join(re.escape(token) for token in sorted(structure, key=len, reverse=True)) or r"(?!)")


class _Renamed:
    """A copy of a fast tokenizer whose control tokens have random names."""

    def __init__(self, backend: Tokenizer, structure: dict[str, int]) -> None:
        secret = secrets.token_hex(16)  # a name that a text could hold would be no name; the ids do not depend on it
        self._names = {token: f"{secret}{number:08d}" for number, token in enumerate(structure)}
        self._find = _pattern(structure)
        values = json.loads(backend.to_str())
        ids = {self._names.get(entry["content"], entry["content"]): entry["id"] for entry in values["added_tokens"]}
        self._backend = Tokenizer.from_str(json.dumps(_renamed(values, self._names)))
        moved = {self._backend.token_to_id(name): number for name, number in ids.items()}
        self._moved = {found: number for found, number in moved.items() if found != number}

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """See `Encoder`."""
        text = "".join(self._find.sub(self._name, part.text) if part.own else part.text for part in parts)
        ids = self._backend.encode(text, add_special_tokens=False).ids
        return [self._moved.get(token, token) for token in ids] if self._moved else list(ids)

    def _name(self, found: re.Match[str]) -> str:
        return self._names[found.group()]


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A tokenizer's JSON with tokens renamed, also in the vocabulary, where plain text could match them."""
    model = values["model"]
    for entry in values["added_tokens"]:
        entry["content"] = names.get(entry["content"], entry["content"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    else:  # Unigram: pairs of token and score
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not names.keys() & _involved(merge)]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return values | {"post_processor": None, "truncation": None, "padding": None}


def _involved(merge: str | list[str]) -> set[str]:
    """Both sides of a merge and its result."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return {first, second, first + second}


class _Pieces:
    """For a tokenizer that cannot be copied: splits prompts at the template's control tokens.

    The text between two of them is encoded separately, without added tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, structure: dict[str, int]) -> None:
        self._tokenizer, self._structure, self._find = tokenizer, structure, _pattern(structure)

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """See `Encoder`. A prompt whose texts contain no control token is encoded as a whole."""
        whole = "".join(part.text for part in parts)
        owned = sum(len(self._find.findall(part.text)) for part in parts if part.own)
        if len(self._find.findall(whole)) == owned:
            return self._ids(whole)
        ids: list[int] = []
        pending = ""
        for part in parts:
            at = 0
            for found in self._find.finditer(part.text) if part.own else ():
                ids += [*self._plain(pending + part.text[at : found.start()]), self._structure[found.group()]]
                pending, at = "", found.end()
            pending += part.text[at:]
        return ids + self._plain(pending)

    def _ids(self, text: str, **how: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, **how)["input_ids"]
        return ids

    def _plain(self, text: str) -> list[int]:
        return self._ids(text, split_special_tokens=True) if text else []
