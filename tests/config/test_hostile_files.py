"""Whatever stands in a file that a person can edit, its reader returns or says what is wrong: an OelError, no other."""

import json
import re
import string
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cli.app import call
from oel_core.config.distill import ReplayConfig
from oel_core.config.run import PRESETS, dump_config, load_config
from oel_core.distillation.data.replay import read_replay
from oel_core.errors import OelError
from oel_core.evaluation.ifeval import read_prompts
from oel_core.knowledge.store import load_knowledge, paths, render, write_knowledge
from oel_core.models import checkpoints
from oel_core.models.architectures import read_architecture
from oel_core.runs.folder import RunFolder, adopt_config
from oel_core.runs.jsonl import read_jsonl, require_json_lines
from oel_core.runs.lease import read_lease
from oel_core.runs.manifest import Manifest, StageKey, read_record
from oel_core.types import ExperienceItem, Knowledge, Trajectory
from tasks.tracking.settings import load_settings
from tests.fuzzing import examples

PRESET = (PRESETS / "quickstart.yaml").read_text(encoding="utf-8")
MLFLOW = "tracking_uri: sqlite:///{root}/x.db\nexperiment: oel\nartifacts: {checkpoints: all, transcripts: 4}\n"
NASTY = (
    *("010", "1:30", "0x_", "2020-99-99", "9" * 5000, "1e999", ".inf", ".nan", "-0", "~", "y", "=", "<<", "1_0", "-1"),
    *("&a [*a]", "*a", "&a", "!!int x", "!!binary x", "!!python/object:os.system x", "! 1", "%TAG", "---", "...", "|"),
    *("{", "}", "[", "]", "[" * 200, "{a: " * 200, "- " * 200, "? ", ": ", ",", "#", "'", '"', "\t", "\r", "\n", ">"),
    *('"\\ud800"', '"\\UFFFFFFFF"', "\0", "\ufeff", "\x85", "\u2028", "\u202e", "\x1b[2J", "💥", "null", "true"),
)
NASTY_JSON = (
    *("null", "true", "-1", "0", "0.5", "1e999", "NaN", "1" * 5000, '""', '"x"', '"\\ud800"', '"/x"', "[]", "{}"),
    *('["x"]', "[[]]", "[null]", '{"x": {}}', "[" * 3000 + "]" * 3000, '"round_x/y"', '"../x"', '"x", "x": "y"'),
)
FIELDS = ("rounds", "seed", "description", "model.path", "model.lora", "model.openai.base_url", "environment.options")
CHEAP = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@st.composite
def mutations(draw: st.DrawFn, text: str) -> bytes:
    """A valid text after one to four edits: a span taken out, repeated, moved, or replaced with something nasty."""
    for _ in range(draw(st.integers(1, 4))):
        begin, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        end = draw(st.sampled_from((begin, min(end, begin + 20), end)))
        new = draw(st.one_of(st.sampled_from(NASTY), st.just(text[begin:end] * 2), st.text(max_size=5)))
        text = text[:begin] + new + text[end:]
    data = text.encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.sampled_from((b"", b"", b"", b"\xff", b"\xc3", b"\x00"))) + data[at:]


@st.composite
def json_mutations(draw: st.DrawFn, valid: str) -> bytes:
    """A valid JSON document with one of its values replaced."""
    found = re.finditer(r'(?<=: )("[^"]*"|[^\s,{}\[\]]+|\[[^\]]*\]|\{[^}]*\})', valid)
    begin, end = draw(st.sampled_from([match.span() for match in found]))
    return (valid[:begin] + draw(st.sampled_from(NASTY_JSON)) + valid[end:]).encode()


def hostile(valid: str) -> st.SearchStrategy[bytes]:
    """Contents of a file that should be like `valid`."""
    anything = st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
    return st.one_of(mutations(valid), mutations(valid), anything)


def survives(read: Callable[[], Any]) -> None:
    """An OelError says what is wrong; any other exception fails the test."""
    with suppress(OelError):
        read()


@settings(CHEAP, max_examples=examples(900))
@given(data=hostile(PRESET))
def test_any_preset(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "preset.yaml"
    path.write_bytes(data)
    survives(lambda: dump_config(load_config(str(path))))


@settings(CHEAP, max_examples=examples(150))
@given(data=hostile(PRESET))
def test_any_preset_on_the_command_line(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "preset.yaml"
    path.write_bytes(data)
    assert call(["config", "show", str(path)]) in (0, 2)
    assert "\x1b" not in capsys.readouterr().err


_PATHS = st.one_of(st.sampled_from(FIELDS), st.text(string.printable, max_size=12), st.just("evaluate.ood.x.y"))
_SETTINGS = st.tuples(_PATHS, st.one_of(st.sampled_from(NASTY), st.text(max_size=20))).map("=".join)


@settings(CHEAP, max_examples=examples(800))
@given(overrides=st.lists(st.one_of(_SETTINGS, st.text(max_size=20)), min_size=1, max_size=3))
def test_any_override(overrides: list[str]) -> None:
    survives(lambda: dump_config(load_config("quickstart", overrides)))


@settings(CHEAP, max_examples=examples(150))
@given(
    overrides=st.lists(_SETTINGS, min_size=1, max_size=2), preset=st.sampled_from(("quickstart", "q", "\0", "x" * 300))
)
def test_any_override_on_the_command_line(overrides: list[str], preset: str) -> None:
    assert call(["config", "show", preset, *(word for text in overrides for word in ("--set", text))]) in (0, 2)


@settings(CHEAP, max_examples=examples(300))
@given(data=hostile(MLFLOW))
def test_any_mlflow_yaml(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.yaml"
    path.write_bytes(data)
    survives(lambda: load_settings(path).resolved(tmp_path, "run"))


@settings(CHEAP, max_examples=examples(300))
@given(data=hostile(PRESET))
def test_any_configuration_of_a_run(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(data)
    survives(RunFolder(tmp_path).config)


KEY = StageKey(stage="round_01/collect", sections=("seed",), config={"seed": 0}, inputs={})
MANIFEST = Manifest(key=KEY, config_digest="0", counts={"n": 1.0}, outputs={}, package_version="1", finished_at=1.0)
MESSAGES = {"messages": [{"role": "user", "content": "x"}]}
IFEVAL = {"key": 1, "prompt": "x", "instruction_id_list": ["a"], "kwargs": [{}]}
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "x", "r": 4, "target_modules": ["a", "b"]}
MODEL = {
    "model_type": "qwen3",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "vocab_size": 9,
    "num_hidden_layers": 1,
    "weight_map": {"a": "b"},
}


def _adopted(path: Path) -> None:
    """A finished stage's manifest, as whoever goes on with the run reads it."""
    stage = path.parent / "round_01" / "collect"
    stage.mkdir(parents=True, exist_ok=True)
    (stage / "manifest.json").write_bytes(path.read_bytes())
    adopt_config(RunFolder(path.parent), load_config("quickstart"), since=1)


def _as_checkpoint(path: Path) -> None:
    """The JSON files of a checkpoint, as far as this project reads them itself."""
    for name in (checkpoints.INDEX, checkpoints.CONFIG):
        (path.parent / name).write_bytes(path.read_bytes())
    read_architecture(checkpoints.read_json(path))
    checkpoints.resolve_model(str(path.parent))


def _as_adapter(path: Path) -> None:
    (path.parent / checkpoints.ADAPTER_CONFIG).write_bytes(path.read_bytes())
    (path.parent / checkpoints.ADAPTER_WEIGHTS).write_bytes(b"")
    checkpoints.adapter_base(path.parent)
    checkpoints.canonical_adapter_config(checkpoints.read_json(path))


ITEM = ExperienceItem(text="- x", sources=("a",), round=1, format="itemised", model="m")
KNOWLEDGE = Knowledge(replica=0, round=1, items=(ITEM,), text=render((ITEM,)), tokens=2)


def _sidecar(tmp_path: Path) -> str:
    write_knowledge(tmp_path, 0, KNOWLEDGE)
    return paths(tmp_path, 0)[1].read_text(encoding="utf-8")


@pytest.mark.parametrize("which", [0, 1])
@settings(CHEAP, max_examples=examples(150))
@given(data=st.data())
def test_any_knowledge(which: int, data: st.DataObject, tmp_path: Path) -> None:
    sidecar = _sidecar(tmp_path)
    contents = (hostile(KNOWLEDGE.text), st.one_of(json_mutations(sidecar), hostile(sidecar)))[which]
    paths(tmp_path, 0)[which].write_bytes(data.draw(contents))
    survives(lambda: load_knowledge(tmp_path, 0))


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": (MANIFEST.model_dump_json(indent=1), lambda path: read_record(path, Manifest)),
    "manifest of a run": (MANIFEST.model_dump_json(indent=1), _adopted),
    "lease": ('{"id": "a", "holder": {}, "purpose": "x", "since": 1}', read_lease),
    "replayed prompts": (json.dumps(MESSAGES) + "\n", lambda path: read_replay(ReplayConfig(path=str(path)))),
    "trajectories": ('{"id": "a", "turns": []}\n', lambda path: list(read_jsonl(path, Trajectory))),
    "JSON lines": ('{"id": [1, 2]}\n', require_json_lines),
    "IF-Eval": (json.dumps(IFEVAL) + "\n", read_prompts),
    "checkpoint": (json.dumps(MODEL), _as_checkpoint),
    "adapter": (json.dumps(ADAPTER), _as_adapter),
}


@pytest.mark.parametrize("reader", READERS)
@settings(CHEAP, max_examples=examples(220))
@given(data=st.data())
def test_any_json(reader: str, data: st.DataObject, tmp_path: Path) -> None:
    valid, read = READERS[reader]
    path = tmp_path / "some.json"
    path.write_bytes(data.draw(st.one_of(json_mutations(valid), hostile(valid))))
    survives(lambda: read(path))
