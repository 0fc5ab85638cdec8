"""What scoring and choosing a round's knowledge files leaves: `scores.json`."""

from pydantic import Field

from oel_core.types import Record

SCORES = "scores.json"


class Score(Record):
    """How often the policy passed with one text before it."""

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
    """One knowledge file's score, and whether it is distilled."""

    replica: int
    tokens: int
    score: Score
    chosen: bool
    weight: float
    """Probability that a sample's teacher reads this file."""


class Selection(Record):
    """`scores.json`."""

    use: str
    layouts: int
    """Distinct boards among the validation episodes."""
    without: Score
    """The same policy without knowledge: what a file has to beat to be of use."""
    files: tuple[FileScore, ...]

    @property
    def chosen(self) -> tuple[FileScore, ...]:
        return tuple(file for file in self.files if file.chosen)
