"""Whatever texts lie in a run, no command lets them steer the terminal: all of them go through `flows.cli.shared`."""

import ast
import json
import logging
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.cli import app as command_line
from flows.cli.app import call
from flows.cli.complete import is_run
from flows.services.process import log_path
from oel_core.config.run import dump_config, load_config, parse_config
from oel_core.knowledge.item_records import ITEM_RECORDS, collect, revise
from oel_core.knowledge.store import write_knowledge
from oel_core.projects.review import Decision, decide
from oel_core.projects.triggers import Trigger, note
from oel_core.rounds.round import Round
from oel_core.runs.folder import LEASE, RunFolder, adopt_config, open_run, stage_key
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.lease import Lease
from oel_core.runs.processes import this_process
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.text.visible import visible
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import registry_of
from tasks.tracking.settings import load_settings
from tests.builders import item, knowledge_of
from tests.flows.cli.test_help import LEAVES

ROOT = Path(__file__).parents[3]
HOSTILE = "a\x1b[2J\x1b]8;;https://evil.example\x1b\\\x07\u202eb\u2066\x9b31m\r[red]<b>`|\u200bz"
"""Clears the screen, sets a link, reorders, goes back to the start of the line, and is markup of three kinds."""
LINE = HOSTILE.replace("\r", "")
SHOW = [
    "config show {preset}",
    "logs lake",
    "knowledge show lake 1",
    "knowledge diff lake 1 2",
    "knowledge history lake evil",
    "review lake --round 1",
    "status",
    "abandon lake 2 --reason {text}",
]
"""Commands whose output has the text in it."""
TABLES = ["config diff {preset} quickstart", "history lake"]
"""Commands that fold the text to a column of a table."""
MENTION = [
    "runs",
    "rounds lake",
    "report lake",
    "open lake --print",
    "clean",
    "compact lake",
    "status lake",
    "cases lake",
    "promote lake",
    "rollback lake --reason {text}",
    "cancel {text}",
    "init {text}",
    "init pond --preset {text}",
    "run {preset} --dry-run",
    "study {text}",
    "eval {tiny} --suite {text}",
    "probe {text}",
    "probe quickstart --set model.path={tiny} --set model.threads=2 --prompt {text}",
    "trigger {text}",
    "schedule {text}",
    "deploy --pool {text}",
    "models fetch {text}",
    "import {text} {preset} --into {preset} --env {text}",
    "forget {text}",
    "forget --older-than {text}",
    "bundle make {text} --out {text}",
    "bundle show {text}",
    "bundle adopt lake {text}",
    "cases {text}",
    "gather {text}",
    "serve {text}",
    "join {text}",
    "notify {text}",
    "up --host {text}",
    "down",
]
"""Commands that fail with a message about the text, or read files that hold it."""
ALL = [*SHOW, *TABLES, *MENTION]
OWN_TEXTS = {"presets", "envs", "doctor", "models list", "seed-lm train", "config schema", "new env", "new preset"}
"""Commands that show nothing but what ships with the project."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything that a model, a user or a server may write is hostile."""
    root = tmp_path_factory.mktemp("root")
    config = parse_config({"description": HOSTILE, "rounds": 2, "collect": {"replicas": 1}}, "test")
    (root / "preset.yaml").write_text(dump_config(config), encoding="utf-8")
    run = open_run(root, "lake")
    adopt_config(run, config)
    for index in (1, 2):
        _learned(run, index)
    decision = Decision(decision="approve", note=HOSTILE, author=HOSTILE, via="oel review", decided_at=0.0)
    decide(Round(config, run, 1), decision)
    write_start(run, 2, RoundStart(parent=1, knowledge=None, trigger="monday"))
    note(run, Trigger(id="monday", outcome="begun", round=2, detail=HOSTILE, at=0.0))
    tracker = tracker_of(load_settings(), run)
    tracker.register("1", run.stage_path(1, "accumulate"), "digest")
    registry = registry_of(load_settings(), run)
    registry.promote(registry.version_of_round(1), id="one", reason=HOSTILE)
    lease = Lease(id="1", holder=this_process().model_copy(update={"born": "7"}), purpose=HOSTILE, since=0.0)
    (run.path / LEASE).write_text(lease.model_dump_json())
    log = log_path(root, "lake")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(LINE.encode() + b"\n")
    return root


def _learned(run: RunFolder, index: int) -> None:
    def work(folder: Path) -> dict[str, float]:
        found = item(f"{HOSTILE} {index}", HOSTILE)
        write_knowledge(folder, 0, knowledge_of(found))
        records = revise([], collect([(found, [HOSTILE])]), index)
        (folder / ITEM_RECORDS).write_bytes(jsonl_bytes(records))
        return {"tokens_mean": 3.0}

    run.perform(stage_key(run.config(), index, "accumulate", ["seed"], {}), work)


@pytest.fixture
def oel(root: Path, tiny: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given = {"preset": str(root / "preset.yaml"), "tiny": str(tiny), "text": shlex.quote(HOSTILE)}

    def run(line: str, *more: str) -> tuple[int, str, str]:
        words = [*shlex.split(line.format(**given)), *more]
        has_root = any("--root" in one.opts for one in LEAVES[path_of(line)].params)  # type: ignore[attr-defined]
        code = call([*words, "--root", str(root)] if has_root else words)
        return (code, *capfd.readouterr())

    return run


def texts(value: object) -> Iterator[str]:
    """All texts in what a line of JSON says."""
    if isinstance(value, str):
        yield value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in inside:
        yield from texts(entry)


def path_of(line: str) -> str:
    first, second, *_ = [*line.split(), ""]
    return first if first in LEAVES else f"{first} {second}"


def test_no_command_is_left_out() -> None:
    assert {path_of(line) for line in ALL} | OWN_TEXTS == set(LEAVES)


@pytest.mark.parametrize("line", ALL)
def test_no_command_lets_a_text_steer_the_terminal(oel: Callable[..., tuple[int, str, str]], line: str) -> None:
    code, out, err = oel(line)
    assert code in (0, 1, 2)
    assert visible(out + err) == out + err
    if line in SHOW:
        assert code == 0
        assert "[red]<b>`|" in out, "the text is shown as it is"


@pytest.mark.parametrize("line", ALL)
def test_programs_get_the_text_and_terminals_escapes(oel: Callable[..., tuple[int, str, str]], line: str) -> None:
    if line.startswith("abandon"):
        pytest.skip("a round is abandoned once")
    _, out, err = oel(line, "--json")
    assert visible(out + err) == out + err
    said = [text for row in out.splitlines() for text in texts(json.loads(row))]
    if line in SHOW + TABLES and line != "status":  # a run that it only names is no service
        assert any(LINE in text.replace("\r", "") for text in said)


def test_what_is_logged_on_the_way_cannot_steer_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    before = logging.getLogRecordFactory()
    monkeypatch.setattr("sys.argv", ["oel", "--version"])
    try:
        with pytest.raises(SystemExit):
            command_line.main()
        record = logging.getLogger("oel_core").makeRecord("oel_core", 30, "", 1, "%s said %s", (HOSTILE, 1), None)
    finally:
        logging.setLogRecordFactory(before)
    assert record.getMessage() == f"{visible(HOSTILE)} said 1"


def test_a_shell_is_handed_names_of_runs_only(tmp_path: Path) -> None:
    for name in ("lake", HOSTILE.replace("/", ""), "$(id)", "-x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir() if is_run(path)] == ["lake"]


@pytest.mark.parametrize("path", sorted((ROOT / "flows" / "cli").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_printed_past_the_shared_output(path: Path) -> None:
    if path.name == "shared.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"print", "typer.echo", "typer.secho", "Console", "rich.print", "sys.stdout.write"}


def test_a_configuration_with_such_text_is_read_back(root: Path) -> None:
    text = (root / "preset.yaml").read_text(encoding="utf-8")
    assert visible(text) == text
    assert load_config(str(root / "preset.yaml")).description == HOSTILE
