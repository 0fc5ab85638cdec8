"""A few prompts in IF-Eval's format, written for these tests, and checkers that need no extra."""

import json
from pathlib import Path

import pytest

from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.harness.lm_eval import Checked
from oel_core.evaluation.ifeval import IfevalPrompt

KINDS = ("punctuation:no_comma", "change_case:english_lowercase")


def prompt(key: int) -> dict[str, object]:
    """Odd keys have one instruction, even ones two."""
    kinds = KINDS[: 1 + (key % 2 == 0)]
    return {"key": key, "prompt": f"Say {key}.", "instruction_id_list": kinds, "kwargs": [{} for _ in kinds]}


def write_prompts(folder: Path, keys: range = range(100, 112)) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt(key)) + "\n" for key in keys), encoding="utf-8")
    return path


def check(prompt: IfevalPrompt, answer: str) -> Checked:
    """No comma; lower case. Loose forgives asterisks."""
    found = {KINDS[0]: answer != "" and "," not in answer, KINDS[1]: answer != "" and answer == answer.lower()}
    loose = {KINDS[0]: found[KINDS[0]], KINDS[1]: found[KINDS[1]] or answer.startswith("*")}
    names = prompt.instruction_id_list
    return Checked(tuple(found[name] for name in names), tuple(loose[name] for name in names))


def fake_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite as with the extra, but with `check` as its checkers."""
    monkeypatch.setattr(lm_harness, "installed", lambda: True)
    monkeypatch.setattr(lm_harness, "check_instructions", check)
    monkeypatch.setattr(lm_harness, "version", lambda: "fake")
    monkeypatch.setattr(lm_harness, "known_task", lambda name, folder: False)
