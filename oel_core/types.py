"""The records of a learning run. Frozen, JSON-serialisable, without behaviour, so they load without plug-ins.

Vocabulary: an *episode* is one play of one environment seed; its record is a `Trajectory` of `Turn`s. A *partial
rollout* is the prompt of a turn without its response (arXiv 2603.16856, section on consolidation).
"""

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticSerializationError, from_json

from oel_core.errors import ArtifactError


class Record(BaseModel):
    """A frozen row of a JSONL file. Unknown fields are rejected, so that other files are recognised.

    Floats are finite: JSON has no other numbers, and pydantic would write them as null, which cannot be read again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_dump_json(self, **options: Any) -> str:
        """The record as JSON.

        Raises:
            ArtifactError: an unchecked float (`model_copy`, a field of type Any) is not finite, or a text has an
                unpaired surrogate, which UTF-8 cannot represent.
        """
        for path, value in _floats(self, type(self).__name__):
            if not math.isfinite(value):
                raise ArtifactError(f"{path} is {value}: records hold finite numbers only, so it is not written")
        try:
            return super().model_dump_json(**options)
        except PydanticSerializationError as error:
            raise ArtifactError(f"{type(self).__name__} cannot be written: {error}") from error


def _floats(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every float within a value, with its dotted path."""
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, BaseModel):
        yield from _floats(vars(value), path)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _floats(entry, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            if not isinstance(entry, (int, str)):  # token ids are many
                yield from _floats(entry, f"{path}.{number}")


class StopReason(StrEnum):
    """Why a response ended."""

    EOS = "eos"
    LENGTH = "length"


class IdSource(StrEnum):
    """Source of a turn's token ids."""

    SAMPLED = "sampled"
    """The ids that the model read and sampled."""
    RETOKENISED = "retokenised"
    """A server gave text only; the ids are a local tokenizer's reading of it, without the end token."""


class Split(StrEnum):
    """The use of an episode. `HELD_OUT` is for reporting only, never for selection."""

    EXTRACT = "extract"
    DISTILL = "distill"
    VALIDATION = "validation"
    HELD_OUT = "held_out"


INSTRUCTING = ("system", "developer")
"""Roles of a message that says how the conversation is to be held; it can only be the first."""


def _all_finite(values: dict[str, Any]) -> dict[str, Any]:
    for path, value in _floats(values, "it"):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, not a finite number")
    return values


Values = Annotated[dict[str, Any], AfterValidator(_all_finite)]
"""Values of any kind that JSON has."""
TokenId = Annotated[int, Field(ge=0)]


class Tool(Record):
    """A function that an assistant may call, as OpenAI's API declares it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: str = ""
    parameters: str = "{}"
    """JSON Schema of the arguments, as JSON text."""

    @field_validator("parameters")
    @classmethod
    def _a_schema(cls, text: str) -> str:
        if not isinstance(from_json(text), dict):
            raise ValueError("it is no JSON object")
        return text


class ToolCall(Record):
    """One call of a function within an assistant's message."""

    id: str = ""
    """Referenced by the tool's message."""
    name: str
    arguments: str
    """JSON text as written by the model; may be invalid."""


def _is_empty(value: object) -> bool:
    return not value


class Message(Record):
    """One chat message, with the roles and fields of OpenAI's chat completions."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    """Text; empty for an assistant message with tool calls only."""
    tool_calls: tuple[ToolCall, ...] = Field(default=(), exclude_if=_is_empty)
    """Of an assistant."""
    tool_call_id: str | None = Field(default=None, exclude_if=_is_empty)
    """Of a tool: the call that it responds to."""
    tools: tuple[Tool, ...] = Field(default=(), exclude_if=_is_empty)
    """Of a system or developer message: the available functions."""

    @model_validator(mode="after")
    def _fields_of_its_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a {self.role} message has tool_calls: only an assistant calls tools")
        if self.tool_call_id is not None and self.role != "tool":
            raise ValueError(f"a {self.role} message has a tool_call_id: only a tool answers calls")
        if self.tools and self.role not in INSTRUCTING:
            raise ValueError(f"a {self.role} message has tools: they stand in the system message")
        return self


class Feedback(Record):
    """Feedback on an answer or a whole session."""

    source: Literal["human", "code", "judge"]
    whole: bool = False
    """About the session, not only about the answer that it came with."""
    name: str = ""
    score: float | None = None
    """In an episode 1 is the best that the source gives."""
    thumbs: bool | None = None
    label: str = ""
    comment: str = ""
    correction: str = ""
    """The corrected answer, written by the source of the feedback."""
    expected: str = ""
    """The right answer as a data set or an annotation has it."""
    rubric: str = ""
    """Criteria for a right answer, from a data set or an annotation."""
    superseded: bool = False
    """Replaced by later feedback: kept, but not used."""

    @property
    def rates(self) -> bool:
        """Whether it is in use and says something about the answer, as a rubric alone does not."""
        said = self.thumbs is not None or self.score is not None
        return not self.superseded and (said or any((self.label, self.comment, self.correction, self.expected)))


class Turn(Record):
    """One prompt, one response, one step of the environment."""

    messages: tuple[Message, ...] = Field(min_length=1)
    """The student's prompt: never contains knowledge, even if the policy's prompt did."""
    prompt_ids_digest: str
    """SHA-256 (first 16 hex digits) over the token ids of the policy's actual prompt."""
    prompt_tokens: int = Field(ge=0)
    response: str
    response_ids: tuple[TokenId, ...]
    """Exact sampled token ids, including a sampled end token, unless `id_source` says otherwise."""
    stop_reason: StopReason
    action: str | None
    """The parsed action; None is an invalid move."""
    observation: str
    """The environment's response to the action."""
    reward: float
    """Of this step alone."""
    wall_s: float = Field(ge=0)
    """Seconds of generation divided among concurrent requests, plus the environment's step."""
    id_source: IdSource = IdSource.SAMPLED
    given: tuple[Feedback, ...] = Field(default=(), exclude_if=_is_empty)
    """Feedback on this response, or with `whole` on the session that it ends."""


class Trajectory(Record):
    """One whole episode. Failed episodes are recorded too: `error` has the reason and `turns` what was played."""

    id: str
    env: str
    seed: int
    split: Split
    round: int = Field(ge=0)
    replica: int = Field(ge=0)
    index: int = Field(ge=0)
    """Index within its split, round and replica."""
    policy: str
    knowledge_digest: str | None
    """Digest of the knowledge text in the prompt, None when there was none."""
    intro: str
    """The environment's line about the player and its actions."""
    turns: tuple[Turn, ...]
    terminated: bool
    """The environment ended the episode."""
    truncated: bool
    """The turn limit ended the episode. Never true together with `terminated`."""
    reward: float
    """Return of the episode: the sum of its turns' rewards, 0.0 if it failed technically; 1.0 is a pass."""
    feedback: str
    """Final feedback for the extractor."""
    error: str | None = None
    session: str = Field(default="", exclude_if=_is_empty)
    """Of a recorded conversation: a pseudonym of the source's id; empty if it has none."""
    user: str = Field(default="", exclude_if=_is_empty)
    """Of a recorded conversation: a pseudonym of the user's id; empty if unknown."""
    at: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Of a recorded conversation: time of its last call, seconds since 1970, UTC; None if unknown."""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.terminated and self.truncated:
            raise ValueError("terminated and truncated are both true: an episode has one end")
        return self

    @property
    def passed(self) -> bool:
        """The paper's pass criterion."""
        return self.reward >= 1.0


class PartialRollout(Record):
    """The prompt of one turn without the response: all that distillation needs of an environment."""

    trajectory_id: str
    turn: int = Field(ge=0)
    messages: tuple[Message, ...] = Field(min_length=1)


class ExperienceItem(Record):
    """One item of experiential knowledge with its provenance."""

    text: str
    """As a model reads it, including the marker of its format."""
    sources: tuple[str, ...]
    """Ids of the source trajectories, in order of first occurrence."""
    round: int = Field(ge=1)
    format: str
    model: str
    """The extractor's policy."""
    support: int = Field(default=1, ge=1, exclude_if=lambda value: value == 1)
    """Number of episodes, over all replicas, in which it was found; counted at accumulation."""


class Knowledge(Record):
    """The knowledge of one replica: `text` is byte for byte what a model reads."""

    replica: int = Field(ge=0)
    round: int = Field(ge=1)
    items: tuple[ExperienceItem, ...]
    text: str
    tokens: int = Field(ge=0)
    dropped_over_cap: int = Field(default=0, ge=0)
    """Items removed by the token cap, over the whole accumulation."""
    dropped_duplicates: int = Field(default=0, ge=0)
    validation_score: float | None = None
    """Pass rate in context on validation episodes, if measured."""

    @property
    def blank(self) -> bool:
        """Whether a model would read nothing."""
        return not self.text.strip()


class EvalReport(Record):
    """The result of one suite for one policy."""

    suite: str
    policy: str
    episodes: int = Field(ge=0)
    passed: int = Field(ge=0)
    pass_rate: float
    ci95: tuple[float, float]
    """Wilson score interval of the pass rate."""
    response_tokens: float
    """Mean tokens of a response (one turn)."""
    turns: float
    """Mean turns of an episode."""
    trajectory_tokens: float
    """Mean response tokens of a whole episode."""
    truncation_rate: float
    """Share of responses that hit the token cap."""
    invalid_rate: float
    """Share of turns without a valid action."""
    errors: int = Field(default=0, ge=0)
    """Episodes that failed technically; they count as not passed."""
    layouts: int = Field(default=0, ge=0)
    """Number of distinct hidden layouts among the episodes."""
    undecided: str = Field(default="", exclude_if=_is_empty)
    """Why the pass rate may not decide a promotion; empty if it may."""
    extra: Values = Field(default_factory=dict)
