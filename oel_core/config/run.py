"""The configuration of a run: frozen, unknown fields rejected, every field with its unit.

A preset is one YAML file in `oel_core/config/presets/`. `load_config` reports all problems at once, each with its path.
"""

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from oel_core.config.distill import DistillConfig
from oel_core.config.fields import check, shown, validate
from oel_core.config.knowledge import KnowledgeConfig, ReviewConfig
from oel_core.config.names import BackendName, EnvironmentName, FormatName
from oel_core.config.operation import AlarmsConfig, CasesConfig, ExperienceConfig, GateConfig
from oel_core.config.overrides import Override, apply_overrides, parse_override
from oel_core.config.sampling import Sampling
from oel_core.config.section import MAX_COUNT, Count, CountOrZero, Label, Options, Regex, Section, Text
from oel_core.config.serving import OpenAIConfig, RunnerConfig, ServeConfig, VllmConfig
from oel_core.config.yaml_text import Place, YamlText, dump_yaml, parse_yaml, read_yaml
from oel_core.errors import ConfigError
from oel_core.text.nearest import nearest

PRESETS = resources.files("oel_core.config") / "presets"


class LoraConfig(Section):
    """A low-rank adapter instead of full fine-tuning (peft)."""

    r: Count = 16
    """Rank."""
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of adapter inputs; not applied in the frozen teacher."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    merge: bool = False
    """Whether a round's result is a whole model with the adapter merged into it, so that every round trains a new
    adapter; else the rounds go on training one adapter."""


class ModelConfig(Section):
    """The start model and how it is loaded."""

    path: str = "seed-lm"
    """`seed-lm` (the embedded model), a folder, or a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Count = 64
    """Prompts generated per batch."""
    prefix_cache_tokens: CountOrZero | None = None
    """Capacity of the KV cache between the turns of a group of episodes (transformers backend), tokens; null: half the
    memory of the weights, 0: off."""
    threads: Count | None = None
    """CPU threads of one operation; null: by the free cores and the model's size, and unchanged when a run is resumed.
    `OMP_NUM_THREADS` in the environment takes precedence."""
    max_length: Count = 2048
    """Maximum tokens of prompt and response together."""
    thinking: bool = False
    """Passed to the chat template as `enable_thinking`."""
    lora: LoraConfig | None = None
    backend: BackendName = "transformers"
    """Generates responses; distillation always trains the weights at `path` with transformers."""
    vllm: VllmConfig = VllmConfig()
    openai: OpenAIConfig = OpenAIConfig()
    """Used if `backend` selects it."""

    @property
    def makes_adapters(self) -> bool:
        """Whether rounds result in adapters of the start model rather than in whole models."""
        return self.lora is not None and not self.lora.merge

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.backend == "openai" and self.openai.base_url is None and not self.openai.managed:
            raise ValueError("backend openai needs openai.base_url, or openai.managed to start a server here")
        return self


class EnvironmentChange(Section):
    """The rules of the environment change between two rounds."""

    round: int = Field(ge=2, le=MAX_COUNT)
    """First round that plays and evaluates with the new options."""
    options: Options
    """Options that replace those of the same name; the others stay."""


class EnvironmentConfig(Section):
    """The environment of the run."""

    name: EnvironmentName = "lake"
    options: Options = Field(default_factory=dict)
    """Options of that environment; `oel envs` lists them."""
    changes: tuple[EnvironmentChange, ...] = ()
    """Options that change at a round, in ascending order; rounds 0 and 1 have `options`."""
    max_turns: Count = 5
    """Turns after which an episode is truncated."""
    split_by_layout: bool = False
    """Choose seeds so that no hidden layout occurs in two splits."""
    instructions: Text | None = None
    """The player's task and the form of an action; null is the environment's own."""
    seeds: Literal["disjoint", "paper"] = "disjoint"
    """`paper` uses the seeds of the paper's reference implementation, whatever the loop seed."""

    def at_round(self, number: int) -> Self:
        """The environment as it is in a round, without changes."""
        if not self.changes:
            return self
        due = [change.options for change in self.changes if change.round <= number]
        options = {name: value for each in (self.options, *due) for name, value in each.items()}
        return self.model_copy(update={"options": options, "changes": ()})

    @model_validator(mode="after")
    def _changes_ascend(self) -> Self:
        for place, change in enumerate(self.changes):
            before = self.changes[place - 1].round if place else 0
            if change.round <= before:
                raise ValueError(f"changes.{place}.round is {change.round}, after one at round {before}: sort them")
            if not change.options:
                raise ValueError(f"changes.{place}.options is empty: name the options that change at that round")
        return self

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        if self.seeds == "paper" and self.split_by_layout:
            raise ValueError("seeds: paper names every episode's seed, so split_by_layout cannot choose: turn one off")
        return self


class PlayConfig(Section):
    """How episodes are played, for collection and evaluation."""

    history_turns: CountOrZero | None = None
    """Earlier exchanges kept in a prompt; null keeps all."""
    sampling: Sampling = Sampling()


class CollectConfig(Section):
    """Amount of experience that a round collects."""

    replicas: Count = 10
    """K: number of independent knowledge files."""
    extraction_episodes: Count = 30
    """N: episodes per replica for extraction."""


class ExtractionExample(Section):
    """One demonstration for the extractor: a request about an episode, and a good answer."""

    episode: Text
    """The user's message, as `oel_core.prompts.extraction` writes it, of a world that does not exist."""
    answer: Text
    """What the extractor should have written, in the extraction format."""


class ExtractConfig(Section):
    """How knowledge items are extracted from episodes."""

    model: Literal["policy", "base"] = "policy"
    """Which weights extract: those of the round's start, as in the paper, or those of `model.path` in every round.
    Distillation on short responses can cost a small model its ability to extract."""
    format: FormatName = "itemised"
    task: Text | None = None
    """The extractor's task: what the environment is and what to learn about it; null: the environment's own text."""
    examples: tuple[ExtractionExample, ...] | None = None
    """Demonstrations before the episode, as turns of the conversation; null is the environment's own, an empty list
    none. Small models imitate a demonstrated form better than they follow a described one."""
    with_previous: bool = True
    """Include the existing knowledge in the extractor's prompt."""
    use_after: Count | None = None
    """Number of episodes whose items are used; null is half of `collect.extraction_episodes`, the paper's choice."""
    turns_shown: Count | None = None
    """Last turns of an episode in the extractor's prompt; null for all."""
    evidence: Literal["off", "drop"] = "off"
    """`drop` removes items with quotations that do not occur in any observation, response or feedback of their
    episode."""
    constrained: Literal["off", "shape"] = "off"
    """`shape` restricts the extractor's output to what the format can parse (constrained decoding)."""
    item_shape: Regex | None = None
    """With `shape`: regular expression of one item's text; null is the environment's own, or any line."""
    sampling: Sampling = Sampling(max_tokens=2048)


class GameSuite(Section):
    """Held-out episodes of the run's environment."""

    episodes: Count = 128
    """Held-out episodes per arm."""
    split: Literal["held_out", "validation"] = "held_out"
    """`validation`: evaluate on the episodes that knowledge is chosen on, to compare settings by them and leave the
    held-out ones unseen. The gate's trials stay held-out."""
    arms: tuple[Literal["in_context", "raw"], ...] = ("in_context", "raw")
    """Arms besides the consolidated model itself."""
    sampling: Sampling = Sampling(top_p=0.8, top_k=20)


class EvaluateConfig(Section):
    """Evaluation after each round."""

    held_out: Literal["games", "cases"] = "games"
    """What every round's models and arms are evaluated on: episodes of the run's environment, or cases."""
    games: GameSuite = GameSuite()
    cases: CasesConfig = CasesConfig()
    ood: dict[Label, Options] = Field(default_factory=dict)
    """Out-of-distribution suites: name of the suite → its options."""


class OelConfig(Section):
    """The configuration of a run."""

    description: str = ""
    """One line for listings and reports."""
    seed: int = Field(default=0, ge=0, lt=2**16)
    """The loop seed. Every random choice of a run derives from it."""
    rounds: Count = 3
    model: ModelConfig = ModelConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    play: PlayConfig = PlayConfig()
    collect: CollectConfig = CollectConfig()
    extract: ExtractConfig = ExtractConfig()
    knowledge: KnowledgeConfig = KnowledgeConfig()
    review: ReviewConfig = ReviewConfig()
    distill: DistillConfig = DistillConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    experience: ExperienceConfig = ExperienceConfig()
    gate: GateConfig = GateConfig()
    serve: ServeConfig = ServeConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    runner: RunnerConfig = RunnerConfig()

    def at_round(self, number: int) -> Self:
        """The configuration of one round: its environment is the one of that round."""
        world = self.environment.at_round(number)
        return self if world is self.environment else self.model_copy(update={"environment": world})

    @property
    def use_after(self) -> int:
        """Number of episodes of each replica whose items are used."""
        return self.extract.use_after or max(1, self.collect.extraction_episodes // 2)

    @property
    def knowledge_cap(self) -> int:
        """Token cap of the knowledge texts."""
        return self.raw_cap if self.knowledge.source.use == "raw" else self.knowledge.max_tokens

    @property
    def injected_cap(self) -> int:
        """Token cap of the knowledge in one prompt: step by step at most so many items, each from one extraction."""
        injection = self.knowledge.injection
        if injection.mode == "global" or self.knowledge.source.use != "extracted":
            return self.knowledge_cap
        return min(self.knowledge_cap, injection.items * self.extract.sampling.max_tokens)

    @property
    def raw_cap(self) -> int:
        """Token cap of raw episodes in place of knowledge."""
        return self.knowledge.source.raw_max_tokens or self.knowledge.max_tokens

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.extract.use_after or 0) > self.collect.extraction_episodes:
            raise ValueError(
                f"extract.use_after is {self.extract.use_after}, but a replica plays only "
                f"collect.extraction_episodes = {self.collect.extraction_episodes}: lower the first or raise the second"
            )
        if self.gate.test == "sequential" and self.environment.seeds == "paper":
            raise ValueError(
                "gate.test: sequential plays held-out episodes of its own in every round, and environment.seeds: paper "
                "has one set for all rounds: set one of them back"
            )
        if self.extract.constrained != "off" and self.model.thinking:
            raise ValueError(
                "extract.constrained is shape, so an answer begins with its first item, but model.thinking is true: "
                "turn one of them off"
            )
        selection = self.knowledge.selection
        if selection.use == "top_m" and selection.m > self.collect.replicas:
            raise ValueError(
                f"knowledge.selection.m is {selection.m}, but there are only collect.replicas = "
                f"{self.collect.replicas} files to choose from: lower the first"
            )
        if self.knowledge.saturation.every is not None and self.knowledge.source.use != "extracted":
            raise ValueError(
                "knowledge.saturation.every measures how extracted knowledge grows, but knowledge.source.use is "
                f"{self.knowledge.source.use}: set one of them back"
            )
        if self.knowledge.hygiene.policy != "off" and self.knowledge.source.use == "raw":
            raise ValueError(
                "knowledge.source.use is raw, but knowledge.hygiene screens items, not whole episodes: set its policy "
                "to off if unscreened episodes are wanted in the weights"
            )
        return self

    @model_validator(mode="after")
    def _merged_weights_are_whole(self) -> Self:
        if self.model.lora is None or not self.model.lora.merge:
            return self
        if self.model.backend == "openai":
            raise ValueError(
                "model.lora.merge makes whole models, but a server (model.backend: openai) takes over adapters only: "
                "set one of them back"
            )
        if self.distill.sharding != "none":
            raise ValueError(
                "model.lora.merge needs whole weights in every process, but distill.sharding is "
                f"{self.distill.sharding}: set one of them back"
            )
        return self

    @model_validator(mode="after")
    def _bundle_needs_no_environment(self) -> Self:
        if self.experience.bundle is None:
            return self
        clashes = [
            name
            for name, wanted in (
                ("experience.inbox", self.experience.inbox is not None),
                ("experience.distill_turns", self.experience.distill_turns != "all"),
                ("knowledge.source.use", self.knowledge.source.use != "extracted"),
                ("knowledge.selection.use", self.knowledge.selection.use != "all"),
                ("knowledge.saturation.every", self.knowledge.saturation.every is not None),
                ("distill.regime=sft", self.distill.regime == "sft"),
            )
            if wanted
        ]
        if clashes:
            raise ValueError(f"experience.bundle has no episodes, which {', '.join(clashes)} needs: leave that out")
        if self.rounds != 1:
            raise ValueError(f"experience.bundle is for one round, but rounds is {self.rounds}: set it to 1")
        return self


def preset_names() -> list[str]:
    """Names of the built-in presets."""
    return sorted(entry.name.removesuffix(".yaml") for entry in PRESETS.iterdir() if entry.name.endswith(".yaml"))


def _read(preset: str) -> YamlText:
    """The content of a preset or YAML file: a mapping."""
    if preset in preset_names():
        return parse_yaml((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"), f"preset {preset}")
    if os.path.isfile(preset):
        return read_yaml(Path(preset))
    known = preset_names()
    raise ConfigError(
        f"unknown preset '{shown(preset)}': {nearest(preset, known)}known are {', '.join(known)}, or a path"
    )


def parse_config(values: Mapping[str, Any], source: str) -> OelConfig:
    """Builds the configuration. ConfigError has every problem with its path."""
    return validate(OelConfig, values, source, lambda place: source)


def read_config(path: Path) -> OelConfig:
    """The configuration in a file; its path is never taken as a preset's name. Raises ConfigError as `load_config`."""
    return _build(read_yaml(path), ())


def load_config(preset: str, overrides: Sequence[str] = ()) -> OelConfig:
    """A preset's name or a YAML file's path, with `section.field=value` overrides applied in order.

    Raises:
        ConfigError: unknown preset, bad YAML, or fields that do not validate (all of them in one message, each with
            its line or its override).
    """
    return _build(_read(preset), [parse_override(OelConfig, override) for override in overrides])


def default_config(overrides: Sequence[str] = ()) -> OelConfig:
    """The defaults of every field, with overrides applied in order. Raises ConfigError as `load_config`."""
    return _build(parse_yaml("{}", "the defaults"), [parse_override(OelConfig, override) for override in overrides])


def check_overrides(overrides: Sequence[str]) -> None:
    """Rejects overrides that are invalid for every preset, before they are stored: wrong names, types and addresses.

    Raises:
        ConfigError: as `load_config`; dependencies on other settings are not checked.
    """
    for override in overrides:
        parsed = parse_override(OelConfig, override)
        values: dict[str, Any] = {}
        apply_overrides(values, [parsed])
        wrong = [problem for problem in check(OelConfig, values) if problem.place[: len(parsed.place)] == parsed.place]
        if wrong:
            raise ConfigError(f"{parsed.source}: {wrong[0]}")


def _build(read: YamlText, overrides: Sequence[Override]) -> OelConfig:
    values = read.mapping()
    apply_overrides(values, overrides)

    def where(place: Place) -> str:
        """The last override that set the value; where several values do not go together, the file and all of them."""
        about = [override for override in overrides if override.about(place)]
        own = [one.source for one in about if len(one.place) <= len(place) or (place not in read.lines and place)]
        others = ", ".join(override.source for override in about)
        return own[-1] if own else f"{read.where(place)} with {others}" if others else read.where(place)

    return validate(OelConfig, values, read.source, where)


def dump_config(config: OelConfig) -> str:
    """The resolved configuration as YAML."""
    return dump_yaml(config.model_dump(mode="json"))
