"""IF-Eval (arXiv 2311.07911): instructions whose fulfilment a program can check.

The checks are lm-evaluation-harness's own code (extra `lm-eval`); generation uses a policy. The prompts come from the
hub (`google/IFEval`) or from a local JSONL file in the format of the original release.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from oel_core.config.run import Count, OelConfig, Section
from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError
from oel_core.evaluation.base import OnEpisode, ignore, summarise
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.options import parse_options
from oel_core.evaluation.questions import Question, QuestionSet, Score, pick, visible
from oel_core.evaluation.stats import Estimate, clustered_share, wilson
from oel_core.policies.base import Policy
from oel_core.seeds import derive_seed
from oel_core.text.invalid import described
from oel_core.types import EvalReport, Message, Record, Trajectory

HUB_DATA = "google/IFEval"


class IfevalOptions(Section):
    """Options of the `ifeval` suite; the defaults are the paper's."""

    model_config = ConfigDict(populate_by_name=True)

    data: str | None = None
    """JSONL file with the prompts; null for the hub."""
    subset: Count | None = Field(default=None, validation_alias=AliasChoices("subset", "episodes"))
    """Number of prompts, spread over all; null for all. The suite's name has the number. Also: `episodes`."""
    seed: int = Field(default=42, ge=0)
    """Seed of the sampling; the same in every round."""
    thinking: bool = False
    """Enable the model's thinking, which is not checked."""
    sampling: Sampling = Sampling(top_p=0.8, top_k=20, max_tokens=1280)


class IfevalPrompt(Record):
    """One line of the data."""

    key: int
    prompt: str
    instruction_id_list: tuple[str, ...] = Field(min_length=1)
    kwargs: tuple[dict[str, Any], ...]
    """Arguments of each instruction."""

    @model_validator(mode="after")
    def _paired(self) -> "IfevalPrompt":
        if len(self.kwargs) != len(self.instruction_id_list):
            raise ValueError(f"{len(self.instruction_id_list)} instructions, but {len(self.kwargs)} entries in kwargs")
        return self


@dataclass(frozen=True)
class Ifeval:
    """IF-Eval on all prompts or on a subset of them."""

    options: IfevalOptions
    given: tuple[IfevalPrompt, ...] = ()
    """All prompts, if they come from a file."""

    @property
    def name(self) -> str:
        """`ifeval`, or `ifeval_subset_<n>` for n prompts."""
        return "ifeval" if self.options.subset is None else f"ifeval_subset_{self.options.subset}"

    @property
    def thinking(self) -> bool:
        """See `QuestionSuite`."""
        return self.options.thinking

    @cached_property
    def everything(self) -> tuple[IfevalPrompt, ...]:
        """All prompts."""
        return self.given or _from_hub()

    @cached_property
    def prompts(self) -> list[IfevalPrompt]:
        """The prompts of this measurement."""
        return pick(self.everything, self.options.subset, lambda one: hashlib.sha256(str(one.key).encode()).hexdigest())

    @property
    def total(self) -> int:
        """See `Suite`."""
        return len(self.prompts)

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`. `pass_rate` is the prompt-level strict accuracy; the other three are in `extra`."""
        lm_harness.require(self.name)
        asking = QuestionSet("ifeval", tuple(map(self._question, self.prompts)), self.options.sampling, self._score)
        episodes = asking.run(policy, done, on_episode)
        report = summarise(self.name, policy.name, episodes, layouts=len(self.prompts))
        return report.model_copy(update={"extra": self._extra(episodes)})

    def _question(self, prompt: IfevalPrompt) -> Question:
        message = Message(role="user", content=prompt.prompt)
        seed = derive_seed("ifeval", self.options.seed, prompt.key)
        return Question(f"ifeval-{prompt.key}", (message,), prompt.key, seed)

    def _score(self, position: int, answer: str) -> Score:
        prompt = self.prompts[position]
        strict = lm_harness.check_instructions(prompt, answer).strict
        kept = [name for name, held in zip(prompt.instruction_id_list, strict, strict=True) if held]
        broken = [name for name, held in zip(prompt.instruction_id_list, strict, strict=True) if not held]
        return Score(
            float(all(strict)), f"followed: {', '.join(kept) or '-'}; not followed: {', '.join(broken) or '-'}"
        )

    def _extra(self, episodes: Sequence[Trajectory]) -> dict[str, Any]:
        """Prompt- and instruction-level, strict and loose. A failed episode follows no instruction."""
        strict: list[tuple[bool, ...]] = []
        loose: list[tuple[bool, ...]] = []
        for prompt, episode in zip(self.prompts, episodes, strict=True):
            answer = visible(episode.turns[0].response) if episode.turns and episode.error is None else ""
            checked = lm_harness.check_instructions(prompt, answer)
            strict.append(checked.strict)
            loose.append(checked.loose)
        digest = hashlib.sha256("\n".join(one.model_dump_json() for one in self.everything).encode()).hexdigest()
        return {
            "prompts": len(self.prompts),
            "prompts_in_all": len(self.everything),
            "is_subset": len(self.prompts) < len(self.everything),
            "prompt_level_strict": _prompt_level(strict),
            "instruction_level_strict": _instruction_level(strict),
            "prompt_level_loose": _prompt_level(loose),
            "instruction_level_loose": _instruction_level(loose),
            "data_sha256": digest,
            "scorer": lm_harness.version(),
        }


def _prompt_level(checked: Sequence[Sequence[bool]]) -> dict[str, float]:
    """With its Wilson interval."""
    followed = sum(all(one) for one in checked)
    return vars(Estimate(followed / len(checked), *wilson(followed, len(checked))))


def _instruction_level(checked: Sequence[Sequence[bool]]) -> dict[str, float]:
    """With its bootstrap interval over prompts, because the instructions of a prompt share one response."""
    return vars(clustered_share([sum(one) for one in checked], [len(one) for one in checked], seed=0))


def make_ifeval(options: Mapping[str, Any], config: OelConfig) -> Ifeval:
    """The suite; the prompts of a local file are read and checked at once.

    Raises:
        ConfigError: an option is wrong, the file is invalid, or the extra is not installed.
    """
    chosen = parse_options("ifeval", IfevalOptions, options)
    prompts = read_prompts(Path(chosen.data)) if chosen.data is not None else ()
    if prompts and chosen.subset is not None and chosen.subset > len(prompts):
        raise ConfigError(f"suite ifeval: subset is {chosen.subset}, but {chosen.data} has only {len(prompts)} prompts")
    lm_harness.require("ifeval")
    return Ifeval(chosen, prompts)


def read_prompts(path: Path) -> tuple[IfevalPrompt, ...]:
    """The prompts of a JSONL file. Raises ConfigError that names the file, the line and the field."""
    try:
        lines = path.expanduser().read_text(encoding="utf-8").split("\n")  # other line ends may stand inside a prompt
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"suite ifeval: data {path} cannot be read: {error}") from error
    prompts = [_parse(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise ConfigError(f"suite ifeval: data {path} holds no prompts")
    twice = [key for key, times in Counter(one.key for one in prompts).items() if times > 1]
    if twice:
        raise ConfigError(f"suite ifeval: data {path} has the key {min(twice)} more than once")
    return tuple(prompts)


def _parse(path: Path, number: int, line: str) -> IfevalPrompt:
    try:
        values = from_json(line)
        return IfevalPrompt.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"suite ifeval: {path}, line {number}: {described(error, 'the line')}") from error
    except ValueError as error:
        raise ConfigError(f"suite ifeval: {path}, line {number} is not JSON: {error}") from error


def _from_hub() -> tuple[IfevalPrompt, ...]:
    from datasets import load_dataset

    try:
        rows = load_dataset(HUB_DATA, split="train")
    except Exception as error:  # the client raises whatever its transport did
        raise ConfigError(
            f"suite ifeval: the hub does not give {HUB_DATA} ({type(error).__name__}): name a local copy with "
            "evaluate.ood.ifeval.data"
        ) from error
    return tuple(IfevalPrompt.model_validate(row) for row in rows)
