"""A sequential trial on a run folder: what it plays, what it decides, and that a kill changes neither.

The world is a corridor whose goal is always to the right; models differ in how often they go there.
"""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oel_core import envs
from oel_core.config.operation import GateConfig
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.envs.base import EnvSpec
from oel_core.errors import ArtifactError, ConfigError
from oel_core.gate.ledger import read_ledger
from oel_core.gate.promotion import Verdict
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds.context import CHECKPOINT, StageContext
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, open_run, round_name
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import StageKey
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.seeds import derive_seed
from oel_core.stages import gate as gate_stage
from oel_core.stages.gate import STAGE, TESTS, gate, read_verdict, verdict_against
from oel_core.types import Message, Trajectory
from tests.fakes import CorridorEnv
from tests.stages.test_gate import measure

SUITE = "cross_game"


class Rightward(CorridorEnv):
    """A corridor with its goal at the right end."""

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        super().__init__(spec, seed)
        self._goal = self._size - 1


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


@dataclass
class Models:
    """Loads players by the round in their path, and dies before the answer number `dies_at`."""

    skill: Mapping[int, tuple[int, int]]
    """Round → percent of its moves to the right in the deployment's corridor, and in the suite's."""
    wordy: int = 1
    """Times that round 2 repeats its answer."""
    dies_at: int | None = None
    answers: int = 0
    loads: list[str] = field(default_factory=list)

    @property
    def context(self) -> StageContext:
        return StageContext(self.load)

    def load(self, path: str, model: ModelConfig) -> Policy:
        number = next((one for one in self.skill if round_name(one) in path), 0)
        self.loads.append(path)

        def respond(messages: tuple[Message, ...], seed: int) -> str:
            if self.answers == self.dies_at:
                raise Killed
            self.answers += 1
            own, suite = self.skill[number]
            right = derive_seed("move", number, seed) % 100 < (own if len(messages[-1].content) == 3 else suite)
            return f"[{'right' if right else 'left'}]" * (self.wordy if number == 2 else 1)

        return ScriptedPolicy(respond, batch_size=4)


EVEN = {0: (50, 90), 1: (50, 90), 2: (50, 90), 3: (50, 90)}
BETTER = {**EVEN, 2: (90, 90)}


def config(**changes: object) -> OelConfig:
    settings = {
        "test": "sequential",
        "ood_tolerance": 0.3,
        "sequential": {"block_episodes": 16, "most_episodes": 160},
        **changes,
    }
    return parse_config(
        {
            "environment": {"name": "corridor", "options": {"size": 3}, "max_turns": 3},
            "evaluate": {
                "games": {"episodes": 4, "sampling": {"max_tokens": 64}},
                "ood": {SUITE: {"environment": "corridor", "options": {"size": 4}, "episodes": 4}},
            },
            "gate": settings,
        },
        "test",
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Rounds 0 to 3, evaluated. Rounds 2 and 3 started from round 1's model."""
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.stages.test_trial:Rightward")
    found = open_run(tmp_path, "run")
    for number in range(4):
        if number:
            parent = 0 if number == 1 else 1
            write_start(found, number, RoundStart(parent=parent, knowledge=None, trigger=f"t{number}"))
            train(found, number)
        for part in ("held_out", f"ood/{SUITE}"):
            measure(found, number, part, 64)
    return found


def train(run: RunFolder, number: int) -> None:
    """The folder that a distillation leaves."""
    key = StageKey(stage=f"{round_name(number)}/distill", sections=(), config={}, inputs={})

    def work(folder: Path) -> dict[str, float]:
        write_atomic(folder / CHECKPOINT / "config.json", str(number).encode())
        return {}

    run.perform(key, work)


def decided(run: RunFolder, models: Models, number: int = 2, settings: OelConfig | None = None) -> Verdict:
    gate(Round(settings or config(), run, number), models.context)
    return read_verdict(run, number)


def played(run: RunFolder, part: str, model: int, number: int = 2) -> list[Trajectory]:
    return list(read_jsonl(run.stage_path(number, STAGE) / part / f"{round_name(model)}.jsonl", Trajectory))


def test_every_name_of_a_test_has_one_that_decides() -> None:
    assert set(TESTS) == set(typing.get_args(GateConfig.model_fields["test"].annotation))


def test_a_better_candidate_is_promoted_when_the_evidence_decides(run: RunFolder) -> None:
    found = decided(run, Models(BETTER))
    assert found.promote
    assert [check.name for check in found.checks] == [
        "better",
        "not_longer",
        "not_shorter",
        "truncation",
        f"ood/{SUITE}/base",
        f"ood/{SUITE}",
    ]
    assert found.trial is not None
    assert (found.trial.number, found.trial.level, found.trial.promoted) == (1, 0.0125, True)
    assert found.trial.episodes == found.held_out.episodes == len(played(run, "held_out", 2)) < 160
    assert found.held_out.second > found.held_out.first
    assert read_ledger(run).trials == (found.trial,)


def test_a_suite_is_played_by_the_base_model_too(run: RunFolder) -> None:
    decided(run, Models(BETTER))
    counts = [len(played(run, f"ood/{SUITE}", model)) for model in (0, 1, 2)]
    assert counts[0] == counts[1] == counts[2] > 0


def test_a_candidate_that_is_no_better_is_refused_before_any_suite_is_played(run: RunFolder) -> None:
    found = decided(run, Models(EVEN))
    assert "better" in found.refusals
    assert found.ood == {}
    assert not (run.stage_path(2, STAGE) / "ood").exists()
    assert len(played(run, "held_out", 2)) < 160
    assert read_ledger(run).trials[0].promoted is False


def test_what_is_lost_out_of_distribution_is_a_reason_to_refuse(run: RunFolder) -> None:
    found = decided(run, Models({**BETTER, 2: (90, 20)}))
    assert set(found.refusals) <= {f"ood/{SUITE}", f"ood/{SUITE}/base"}
    assert found.refusals
    assert found.ood[SUITE].difference < 0


def test_so_is_a_length_that_grows(run: RunFolder) -> None:
    """10 bytes of "[right]" and its end become 29."""
    assert "not_longer" in decided(run, Models(BETTER, wordy=4)).refusals


def test_no_episode_was_seen_before(run: RunFolder) -> None:
    for number in (2, 3):
        decided(run, Models(EVEN), number)
    seeds = [{episode.seed for episode in played(run, "held_out", number, number)} for number in (2, 3)]
    ids = [{episode.id for episode in played(run, "held_out", number, number)} for number in (2, 3)]
    assert not seeds[0] & seeds[1]
    assert not ids[0] & ids[1]
    assert all(id.startswith("r02-held_out-k01-") for id in ids[0])


def test_both_models_play_the_same_episodes_and_are_loaded_once_a_block(run: RunFolder) -> None:
    models = Models(EVEN)
    decided(run, models)
    ours, theirs = played(run, "held_out", 2), played(run, "held_out", 1)
    assert [(one.id, one.seed) for one in ours] == [(one.id, one.seed) for one in theirs]
    assert len(models.loads) == 2 * len(ours) / 16
    assert models.loads[1] == models.loads[2], "the model in memory goes on with the next block"


def test_a_kill_at_any_moment_changes_no_verdict_and_counts_no_trial_twice(run: RunFolder, tmp_path: Path) -> None:
    models = Models(BETTER)
    whole = decided(run, models)
    for dies_at in range(0, models.answers, max(1, models.answers // 12)):
        (run.path / "gate_trials.json").unlink()
        folder = run.stage_path(2, STAGE)
        folder.rename(tmp_path / f"before{dies_at}")
        with pytest.raises(Killed):
            decided(run, Models(BETTER, dies_at=dies_at))
        assert len(read_ledger(run).trials) == 1, "counted before its first episode"
        again = Models(BETTER)
        assert decided(run, again) == whole
        assert read_ledger(run).trials == (whole.trial,)
        assert again.answers <= models.answers - dies_at + 4 * 2, "at most the batch that was being answered"


def test_a_storm_of_kills_ends_with_the_same_verdict(run: RunFolder, tmp_path: Path) -> None:
    whole = decided(run, Models(BETTER))
    (run.path / "gate_trials.json").unlink()
    run.stage_path(2, STAGE).rename(tmp_path / "before")
    kills = 0
    while not run.has(2, STAGE):
        try:
            decided(run, Models(BETTER, dies_at=12))
        except Killed:
            kills += 1
        assert len(read_ledger(run).trials) == 1
        assert kills < 500
    assert read_verdict(run, 2) == whole
    assert kills > 5


def test_a_kill_between_the_ledger_and_the_verdict_is_gone_on_from(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = gate_stage.write_atomic

    def killed(path: Path, data: bytes) -> None:
        if path.name == "gate.json":
            raise Killed
        plain(path, data)

    monkeypatch.setattr(gate_stage, "write_atomic", killed)
    with pytest.raises(Killed):
        decided(run, Models(BETTER))
    assert read_ledger(run).trials[0].promoted is True
    monkeypatch.setattr(gate_stage, "write_atomic", plain)
    models = Models(BETTER)
    assert decided(run, models).promote
    assert models.answers == 0
    assert len(read_ledger(run).trials) == 1


def test_settings_that_change_while_it_is_played_count_for_the_next_round(run: RunFolder) -> None:
    with pytest.raises(Killed):
        decided(run, Models(BETTER, dies_at=40))
    changed = config(margin=0.9, sequential={"block_episodes": 8, "most_episodes": 8})
    found = decided(run, Models(BETTER), settings=changed)
    assert found.promote
    assert found.settings == config().gate


def test_the_same_question_is_asked_once_and_another_champion_is_another(run: RunFolder) -> None:
    found, models = decided(run, Models(BETTER)), Models(BETTER)
    candidate = Round(config(), run, 2)
    assert verdict_against(candidate, 1, models.context) == found
    assert models.answers == 0
    other = verdict_against(candidate, 3, models.context)
    assert (other.champion, other.promote) == (3, True)
    assert other.trial is not None
    assert (other.trial.number, other.trial.promotions) == (2, 1)
    assert verdict_against(candidate, 3) == other


def test_a_damaged_episode_is_an_error_that_names_its_file(run: RunFolder) -> None:
    with pytest.raises(Killed):
        decided(run, Models(BETTER, dies_at=40))
    (path,) = run.path.glob("round_02/.gate.partial/held_out/round_02.jsonl")
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(ArtifactError, match=r"round_02\.jsonl, line 1 is not a whole Trajectory"):
        decided(run, Models(BETTER))


def test_the_papers_seeds_have_no_episodes_for_a_trial() -> None:
    with pytest.raises(ConfigError, match="one set for all rounds"):
        parse_config({"environment": {"seeds": "paper"}, "gate": {"test": "sequential"}}, "test")
