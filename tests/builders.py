"""Small records for tests, with every field set."""

from collections.abc import Iterable, Sequence
from typing import Any

from oel_core.distillation.training.step_records import StepRecord
from oel_core.types import ExperienceItem, Knowledge, Message, Split, StopReason, Trajectory, Turn


def step_record(step: int = 1, **changes: Any) -> StepRecord:
    """One optimiser step of one response; `changes` are its fields."""
    values: dict[str, Any] = {
        "loss": 0.5,
        "kl": 0.5,
        "entropy": 1.0,
        "grad_norm": 1.0,
        "lr": 1e-3,
        "response_tokens": 3,
        "response_length": 3.0,
        "truncation_rate": 0.0,
        "repetition_rate": 0.0,
        "draws": (0,),
        "draw_kl": (),
        "wall_s": 0.1,
        "tokens": 9,
    }
    return StepRecord(step=step, **(values | changes))


def timeless(episodes: Iterable[Trajectory]) -> list[Trajectory]:
    """The episodes without the times of their turns, which differ from run to run."""

    def bare(one: Turn) -> Turn:
        return one.model_copy(update={"wall_s": 0.0})

    return [episode.model_copy(update={"turns": tuple(map(bare, episode.turns))}) for episode in episodes]


def turn(
    number: int = 0,
    response: str = "go [up]",
    *,
    tokens: int = 3,
    stop_reason: StopReason = StopReason.EOS,
    action: str | None = "up",
) -> Turn:
    """Turn `number` (from 0) of an episode whose observations are "board 0", "board 1" and so on."""
    return Turn(
        messages=(Message(role="system", content="Act."), Message(role="user", content=f"board {number}")),
        prompt_ids_digest="0" * 16,
        prompt_tokens=5,
        response=response,
        response_ids=tuple(range(tokens)),
        stop_reason=stop_reason,
        action=action,
        observation=f"board {number + 1}",
        reward=0.0,
        wall_s=0.0,
    )


def episode(
    id: str,
    *,
    answers: Sequence[str] = ("go [up]",),
    turns: Sequence[Turn] | None = None,
    split: Split = Split.EXTRACT,
    reward: float = 0.0,
    feedback: str = "You fell.",
    error: str | None = None,
    seed: int = 0,
) -> Trajectory:
    """One finished episode with a turn for every answer, unless `turns` are given."""
    played = tuple(turns) if turns is not None else tuple(turn(number, text) for number, text in enumerate(answers))
    return Trajectory(
        id=id,
        env="corridor",
        seed=seed,
        split=split,
        round=1,
        replica=0,
        index=0,
        policy="scripted",
        knowledge_digest=None,
        intro="You stand in a corridor.",
        turns=played,
        terminated=error is None,
        truncated=False,
        reward=reward,
        feedback=feedback,
        error=error,
    )


def item(text: str, *sources: str, format: str = "itemised") -> ExperienceItem:
    """An item of round 1."""
    return ExperienceItem(text=text, sources=sources or ("e0",), round=1, format=format, model="scripted")


def knowledge_of(*items: ExperienceItem, replica: int = 0) -> Knowledge:
    """Knowledge that holds these items, a token a word."""
    text = "\n".join(entry.text for entry in items)
    return Knowledge(replica=replica, round=1, items=items, text=text, tokens=len(text.split()))
