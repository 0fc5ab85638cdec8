"""Scorers that compare texts."""

import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from oel_core.cases.case import Case
from oel_core.cases.scorers.base import PASS, AnyOf, scorer_options
from oel_core.config.section import Section, Text
from oel_core.evaluation.questions import Score

ANSWER = "{answer}"
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_TYPOGRAPHIC = "".join(map(chr, (*range(0x2010, 0x2028), 0xAB, 0xBB)))
"""Typographic dashes and quotation marks → ASCII."""
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + _TYPOGRAPHIC, " "))


class NoOptions(Section):
    """Of a scorer without options."""


def normalised(text: str) -> str:
    """A text without case, punctuation, English articles and repeated space, as in question answering metrics.

    Source: SQuAD's evaluation script (Rajpurkar et al., arXiv 1606.05250), after NFKC.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def make_exact(options: Mapping[str, Any]) -> AnyOf:
    """The answer equals a reference answer, ignoring surrounding space."""
    scorer_options("exact", NoOptions, options)
    return AnyOf(lambda answer, right: answer.strip() == right.strip(), "the right text", "another text")


def make_normalised(options: Mapping[str, Any]) -> AnyOf:
    """The answer equals a reference answer after normalisation."""
    scorer_options("normalised", NoOptions, options)
    return AnyOf(lambda answer, right: normalised(answer) == normalised(right), "the right text", "another text")


def make_contains(options: Mapping[str, Any]) -> AnyOf:
    """The answer contains a reference answer as whole words after normalisation."""
    scorer_options("contains", NoOptions, options)
    return AnyOf(_contains, "it has a right text", "it has no right text")


def _contains(answer: str, right: str) -> bool:
    words = normalised(right)
    return bool(words) and f" {words} " in f" {normalised(answer)} "


def _pattern(text: str) -> str:
    try:
        re.compile(text.replace(ANSWER, "x"))
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from error
    return text


class RegexOptions(Section):
    """Options of `regex`."""

    pattern: Annotated[Text, AfterValidator(_pattern)]
    """Searched in the answer. `{answer}` is replaced by a reference answer, escaped."""


@dataclass(frozen=True)
class Regex:
    """The pattern matches in the answer, with any reference answer in place of `{answer}`.

    Only the configuration supplies patterns; texts of logs are never used as patterns.
    """

    pattern: str
    is_judge: bool = False

    def scores(self, case: Case) -> bool:
        """See `Scorer`."""
        return bool(case.answers) or ANSWER not in self.pattern

    def score(self, case: Case, answer: str) -> Score:
        """See `Scorer`."""
        literal = [re.escape(text) for text in case.texts] if ANSWER in self.pattern else [""]
        patterns = {self.pattern.replace(ANSWER, text) for text in literal}
        found = any(re.search(pattern, answer) for pattern in patterns)
        return Score(PASS, "the pattern is there") if found else Score(0.0, "the pattern is not there")


def make_regex(options: Mapping[str, Any]) -> Regex:
    """See `Regex`."""
    return Regex(scorer_options("regex", RegexOptions, options).pattern)
