"""The record of scoring and selecting a round's knowledge files: `scores.json`."""

from pydantic import Field

from oel_core.types import Record

SCORES = "scores.json"


class Score(Record):
    """Pass rate of the policy with one text in the prompt."""

    episodes: int = Field(ge=0)
    passed: int = Field(ge=0)
    pass_rate: float
    ci95: tuple[float, float]
    """Wilson interval of the pass rate."""
    response_tokens: float
    """Mean tokens of a response."""
    errors: int = Field(ge=0)
    """Episodes that failed technically; they count as not passed."""


class FileScore(Record):
    """One knowledge file's score, and whether it is selected."""

    replica: int
    tokens: int
    score: Score
    chosen: bool
    weight: float
    """Probability that a sample's teacher gets this file."""


class Selection(Record):
    """`scores.json`."""

    use: str
    undecided: str = ""
    """Why the scores chose nothing, so that all files are distilled; empty if they chose."""
    layouts: int
    """Number of distinct layouts among the validation episodes."""
    without: Score
    """The same policy without knowledge, as a baseline."""
    files: tuple[FileScore, ...]

    @property
    def chosen(self) -> tuple[FileScore, ...]:
        return tuple(file for file in self.files if file.chosen)
