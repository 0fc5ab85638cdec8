"""Counterfactual knowledge: rollouts whose knowledge states its conventions in other words.

A student that has learnt what its knowledge says may stop to read knowledge: on the knowledge of its own round the
divergence does not show it, since both give the same responses. Here the words of the responses that come from the
knowledge are replaced, in the teacher's prompt and in the responses alike, so only who reads the knowledge gives them.
Words are replaced as token ids, one by one: lengths stay, and text that is not a word stays.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from random import Random
from typing import Any

from oel_core.distillation.training.rollouts import Rollout
from oel_core.errors import ConfigError
from oel_core.seeds import derive_seed

SPACES = ("Ġ", "▁", " ")
"""How vocabularies write a leading space: byte-level BPE, SentencePiece, plain."""
SHORTEST = 3
"""Letters of the shortest word."""
FEWEST = 64
"""Words of one form that a vocabulary needs, so that replacements differ from step to step."""


class Words:
    """The words of a vocabulary that are one token; those with and without a leading space are one word.

    Args:
        vocabulary: token → id.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        forms: dict[str, dict[str, int]] = {}
        for token, number in vocabulary.items():
            space = token[0] if token.startswith(SPACES) else ""
            word = token[len(space) :]
            if len(word) >= SHORTEST and word.isalpha() and word.islower():
                forms.setdefault(word, {})[space] = number
        self._ids = {word: tuple(number for _, number in sorted(found.items())) for word, found in forms.items()}
        self._words = {number: word for word, ids in self._ids.items() for number in ids}
        self._alike: dict[tuple[str, ...], list[str]] = {}
        for word in sorted(forms):
            self._alike.setdefault(tuple(sorted(forms[word])), []).append(word)
        self._form = {word: form for form, found in self._alike.items() for word in found}

    @classmethod
    def of(cls, tokenizer: Any) -> "Words":
        """The words of a tokenizer's vocabulary. ConfigError where it has fewer than `FEWEST` of every form."""
        words = cls(tokenizer.get_vocab())
        if words.most_alike < FEWEST:
            raise ConfigError(
                f"distill.retention.counterfactual_weight replaces words that are one token, and the tokenizer has "
                f"fewer than {FEWEST} of them: set it to 0, or use distill.retention.in_context_weight"
            )
        return words

    @property
    def most_alike(self) -> int:
        """Number of words of the most frequent form."""
        return max(map(len, self._alike.values()), default=0)

    def inside(self, ids: Iterable[int]) -> set[str]:
        """The words among token ids."""
        return {self._words[number] for number in ids if number in self._words}

    def replacements(self, words: set[str], taken: set[str], random: Random) -> dict[int, int]:
        """Token id → id of another word with the same forms, for all forms of `words`; none of `taken` is used.

        Words of a form that has too few others stay as they are.
        """
        found: dict[int, int] = {}
        by_form = Counter(self._form[word] for word in words)
        chosen = {
            form: random.sample(others, count)
            for form, count in sorted(by_form.items())
            if len(others := [word for word in self._alike[form] if word not in taken]) >= count
        }
        for word in sorted(words):
            if self._form[word] in chosen:
                found |= zip(self._ids[word], self._ids[chosen[self._form[word]].pop()], strict=True)
        return found


def counterfactual(rollouts: Sequence[Rollout], words: Words) -> list[Rollout]:
    """The rollouts with other words for those of their responses that their own prompts do not hold.

    All rollouts of a knowledge file get the same replacements, so that their prompts still share its prefix. Rollouts
    in which nothing is replaced are left out. Replacements are sampled by the seed of a file's first rollout.
    """
    files: dict[int, list[Rollout]] = {}
    for one in rollouts:
        files.setdefault(one.sample.knowledge_index, []).append(one)
    return [renamed for members in files.values() for renamed in _renamed(members, words)]


def _renamed(rollouts: Sequence[Rollout], words: Words) -> list[Rollout]:
    known = {
        word
        for one in rollouts
        for word in words.inside(one.response) - words.inside(one.sample.prompt)
        if word in words.inside(one.sample.teacher_prompt)
    }
    taken = words.inside(chain.from_iterable((*one.sample.teacher_prompt, *one.response) for one in rollouts))
    random = Random(derive_seed("counterfactual", rollouts[0].sample.seed))
    others = words.replacements(known, taken, random)
    return [_replaced(one, others) for one in rollouts if not others.keys().isdisjoint(one.response)]


def _replaced(rollout: Rollout, others: Mapping[int, int]) -> Rollout:
    def ids(before: Iterable[int]) -> list[int]:
        return [others.get(number, number) for number in before]

    sample = replace(rollout.sample, teacher_prompt=ids(rollout.sample.teacher_prompt))
    return replace(rollout, sample=sample, response=ids(rollout.response))
