"""The `oel` command: exit codes, messages, and start-up imports."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import call, ignore_launcher
from flows.cli.runs.run import where
from oel_core.config import run as config
from oel_core.config.run import load_config
from oel_core.gate.ledger import close_trial, open_trial
from oel_core.runs.folder import LEASE, adopt_config, open_run
from oel_core.runs.lease import read_lease
from oel_core.study.plan import make_plan
from oel_core.study.writing import write_plan
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import registry_of
from tasks.tracking.settings import load_settings

Oel = Callable[..., tuple[int, str, str]]


def test_the_resolved_configuration_is_printed(oel: Oel) -> None:
    code, out, _ = oel("config", "show", "quickstart", "--set", "distill.learning_rate=1e-4")
    assert code == 0
    assert "learning_rate: 0.0001" in out
    assert "keep_checkpoints: 2" in out


def test_a_schema_for_editors_is_printed_or_written(oel: Oel, tmp_path: Path) -> None:
    code, out, _ = oel("config", "schema")
    assert oel("config", "schema", "--out", tmp_path / "oel.schema.json") == (0, "", "")
    assert code == 0
    assert (tmp_path / "oel.schema.json").read_text() == out
    assert json.loads(out)["$defs"]["EnvironmentConfig"]["properties"]["max_turns"]["default"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quikstart"], "unknown preset 'quikstart': did you mean quickstart?"),
        (["run", "--set", "distill.learnrate=1"], "distill.learnrate"),
        (["run", "--set", "distill.steps=many"], "distill.steps"),
        (["run", "--set", "collect.replicas=-1"], "collect.replicas"),
        (["run", "--set", "nonsense"], "section.field=value"),
        (["run", "--set", "environment.name=frozn_lake"], "did you mean frozen_lake"),
        (["run", "--set", "environment.options={sise: 3}"], "sise"),
        (["run", "--set", "evaluate.ood={other_simbols: {}}"], "did you mean other_symbols"),
        (["run", "--name", "../up"], "run name '../up'"),
        (["rounds", "nothing"], "no run 'nothing'"),
        (["run", "--rounds", "three"], "--rounds"),
        (["nonsense"], "nonsense"),
        (["config", "show"], "Missing argument"),
        (["eval", "seed-lm", "--suite", "gmaes"], "did you mean games"),
        (["study", "quikstart"], "did you mean quickstart?"),
        (["study", "--arms", "sfd"], "there is no arm 'sfd'"),
        (["study", "--arms", "foreign"], "needs --foreign MODEL"),
        (["study", "--seeds", "0"], "--seeds"),
        (["study", "--name", "../up"], "run name '../up'"),
        (["notify", "slack-webhook/team", "--off"], "give one of TYPE/NAME, --webhook-env and --off"),
    ],
)
def test_wrong_usage_ends_with_two_and_a_message(oel: Oel, tmp_path: Path, arguments: list[str], message: str) -> None:
    root = ["--root", tmp_path] if arguments[0] in ("run", "rounds", "study") else []
    code, out, err = oel(*arguments, *root)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_all_problems_are_reported_at_once(oel: Oel, tmp_path: Path) -> None:
    wrong = ["--set", "rounds=0", "--set", "seed=-1", "--set", "collect.replicas=x"]
    code, _, err = oel("run", "--root", tmp_path, *wrong)
    assert code == 2
    assert all(field in err for field in ("rounds", "seed", "collect.replicas"))


def test_a_folder_that_is_no_checkpoint_is_refused(oel: Oel, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    code, _, err = oel("run", "--root", tmp_path / "runs", "--set", f"model.path={tmp_path / 'model'}")
    assert code == 2
    assert str(tmp_path / "model") in err


def test_an_unwritable_root_is_refused(oel: Oel, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = oel("run", "--root", tmp_path / "file", "--set", f"model.path={tiny}")
    assert code == 2
    assert "choose another --root" in err


def test_a_run_in_use_is_refused(oel: Oel, tmp_path: Path, tiny: Path) -> None:
    with open_run(tmp_path, "busy").locked():
        code, _, err = oel("run", "--root", tmp_path, "--name", "busy", "--set", f"model.path={tiny}")
    assert code == 2
    assert "in use by process" in err


def test_runs_and_studies_do_not_share_folders(oel: Oel, tmp_path: Path, tiny: Path) -> None:
    config = load_config("quickstart")
    adopt_config(open_run(tmp_path, "run"), config)
    write_plan(open_run(tmp_path, "study").path, make_plan("quickstart", seeds=1, arms=[]))
    code, _, err = oel("study", "--root", tmp_path, "--name", "run")
    assert (code, "is a run, not a study" in err) == (2, True)
    code, _, err = oel("run", "--root", tmp_path, "--name", "study", "--set", f"model.path={tiny}")
    assert (code, "is a study, not a run" in err) == (2, True)


def test_a_knowledge_file_over_the_cap_is_refused(oel: Oel, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "knowledge.md").write_text("too long " * 100)
    code, _, err = oel("eval", tiny, "--knowledge", tmp_path / "knowledge.md", "--set", "knowledge.max_tokens=10")
    assert code == 2
    assert "900 tokens, over knowledge.max_tokens = 10" in err


def test_any_checkpoint_can_be_measured(oel: Oel, tmp_path: Path, tiny: Path) -> None:
    settings = ["--set", "model.max_length=4096", "--set", "evaluate.games.sampling.max_tokens=4"]
    settings += ["--set", "environment.max_turns=1", "--out", str(tmp_path / "measured")]
    code, out, err = oel("eval", tiny, "--episodes", "2", "--json", *settings)
    assert code == 0
    assert json.loads(out)["episodes"] == 2
    assert "play games: 2 of 2" in err
    assert "Answers and report:" in err
    assert json.loads((tmp_path / "measured" / "report.json").read_text()) == json.loads(out)
    code, _, err = oel("eval", tiny, "--episodes", "3", *settings)
    assert (code, "setting option.episodes: 2 → 3" in err) == (2, True)


def test_a_runs_checkpoint_is_measured_with_the_runs_settings(oel: Oel, tmp_path: Path, tiny: Path) -> None:
    turns = "environment.max_turns=1"
    mine = ["model.max_length=4096", "evaluate.games.sampling.max_tokens=4", "evaluate.games.episodes=2", turns]
    changes = 'environment.changes=[{"round": 2, "options": {"size": 3, "holes": 1, "traps": 0, "key": false}}]'
    adopt_config(open_run(tmp_path, "mine"), load_config("quickstart", [*mine, changes]))
    checkpoint = tmp_path / "mine" / "round_02" / "distill" / "checkpoint"
    shutil.copytree(tiny, checkpoint)
    code, out, err = oel("eval", checkpoint, "--json", "--out", tmp_path / "out")
    assert (code, json.loads(out)["episodes"]) == (0, 2)
    assert f"Settings: {tmp_path / 'mine' / 'config.yaml'}, round 2" in err
    key = json.loads((tmp_path / "out" / "manifest.json").read_text())["key"]["config"]
    assert (key["environment.max_turns"], key["environment.options.size"]) == (1, 3)
    code, _, err = oel(
        "eval", checkpoint, "--json", "--preset", "tiny", "--set", "evaluate.games.episodes=1", "--set", turns
    )
    assert code == 0
    assert "Settings:" not in err


def test_rounds_of_a_run_without_measurements_are_none(oel: Oel, tmp_path: Path) -> None:
    config = load_config("quickstart")
    adopt_config(open_run(tmp_path, "new"), config)
    assert oel("rounds", "new", "--root", tmp_path, "--json")[:2] == (0, "")


@pytest.mark.parametrize("command", ["presets", "envs", "doctor"])
def test_tables_have_a_machine_readable_form(oel: Oel, tmp_path: Path, command: str) -> None:
    root = ["--root", tmp_path] if command == "doctor" else []
    _, out, _ = oel(command, "--json", *root)
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows
    assert oel(command, *root)[1]


def test_the_doctor_finds_an_unwritable_root(oel: Oel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, _ = oel("doctor", "--root", tmp_path / "file" / "runs", "--json")
    rows = {row["what"]: row for row in map(json.loads, out.splitlines())}
    assert code == 1
    assert rows[f"root {tmp_path / 'file' / 'runs'}"]["ok"] is False
    assert rows["prefect"]["ok"]


def test_configuration_is_shown_without_heavy_imports() -> None:
    program = (
        "import sys; from flows.cli.app import call; code = call(['config', 'show', 'quickstart']);"
        "heavy = {'torch', 'prefect', 'mlflow', 'transformers', 'textarena'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_dry_run_says_what_a_run_needs_and_writes_nothing(oel: Oel, tmp_path: Path) -> None:
    code, out, _ = oel("run", "quickstart", "--dry-run", "--root", tmp_path / "runs")
    assert code == 0
    assert "1,046,208 parameters" in out
    assert "Everything it needs is here" in out
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_warns_of_settings_that_are_known_to_come_apart(oel: Oel) -> None:
    unsafe = ["--set", "distill.top_k=4", "--set", "distill.learning_rate=1e-3"]
    code, out, err = oel("run", "quickstart", "--dry-run", *unsafe)
    assert code == 0
    assert "warning  distill.objective=reverse_kl_top_k counts 4 of 480 tokens" in err
    code, out, _ = oel("run", "quickstart", "--dry-run", "--json", *unsafe)
    assert json.loads(out)["cautions"][0].startswith("distill.objective=reverse_kl_top_k")


def test_a_dry_run_of_what_cannot_run_here_ends_with_one(oel: Oel, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    overrides = ["--set", f"model.path={tmp_path / 'cache'}", "--set", "model.batch_size=100000000"]
    code, out, err = oel("run", "quickstart", "--dry-run", *overrides)
    assert code == 1
    assert "distill" in out
    assert "missing  model: " in err
    code, out, _ = oel("run", "quickstart", "--dry-run", "--json", *overrides)
    assert code == 1
    assert json.loads(out)["missing"][0].startswith("model: ")


def test_suite_options_come_from_the_command_line(oel: Oel) -> None:
    code, _, err = oel("eval", "seed-lm", "--suite", "cross_game", "--option", "environment=laek")
    assert (code, "did you mean lake" in err) == (2, True)
    code, _, err = oel("eval", "seed-lm", "--suite", "cross_game", "--option", "environment")
    assert (code, "write it as name=value" in err) == (2, True)


def test_models_are_listed_and_unknown_ones_refused(oel: Oel) -> None:
    code, out, _ = oel("models", "list", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[0])["model"] == "smollm2-135m"
    code, _, err = oel("models", "fetch", "smollm3")
    assert (code, "there are smollm2-135m" in err) == (2, True)


def test_two_configurations_are_compared_field_by_field(oel: Oel, tmp_path: Path) -> None:
    adopt_config(open_run(tmp_path, "lake"), load_config("quickstart", ["distill.steps=5", "seed=3"]))
    code, out, _ = oel("config", "diff", "quickstart", "lake", "--root", tmp_path, "--json")
    found = {row["field"]: (row["first"], row["second"]) for row in map(json.loads, out.splitlines())}
    assert (code, found) == (0, {"distill.steps": (14, 5), "seed": (0, 3)})
    code, out, _ = oel("config", "diff", tmp_path / "lake", "lake", "--root", tmp_path)
    assert (code, "say the same" in out) == (0, True)
    code, _, err = oel("config", "diff", "quickstart", "lak", "--root", tmp_path)
    assert (code, "unknown preset 'lak'" in err) == (2, True)


def test_a_history_without_a_promotion_has_the_rounds_and_one_with_versions_names_them(
    oel: Oel, tmp_path: Path
) -> None:
    run = open_run(tmp_path, "lake")
    adopt_config(run, load_config("quickstart"))
    code, out, _ = oel("history", "lake", "--root", tmp_path, "--json")
    assert code == 0
    assert [(row["kind"], row["round"], row["version"]) for row in map(json.loads, out.splitlines())] == [
        ("round", 0, None)
    ]
    (run.path / "checkpoint").mkdir()
    tracker_of(load_settings(), run).register("1", run.path / "checkpoint", "digest")
    registry = registry_of(load_settings(), run)
    registry.promote(registry.version_of_round(1), id="one", reason="try it")
    rows = [json.loads(line) for line in oel("history", "lake", "--root", tmp_path, "--json")[1].splitlines()]
    assert [(row["round"], row["version"], row["aliases"]) for row in rows if row["kind"] == "round"] == [
        (0, None, []),
        (1, "1", ["candidate", "champion"]),
    ]
    assert [(row["champion"], row["champion_round"]) for row in rows if row["kind"] == "move"] == [("1", 1)]
    assert "trial" not in {row["kind"] for row in rows}


def test_a_history_has_the_trials_of_the_error_budget(oel: Oel, tmp_path: Path) -> None:
    run = open_run(tmp_path, "lake")
    adopt_config(run, load_config("quickstart"))
    close_trial(run, open_trial(run, 1, "d", 0, 0.05), promoted=False, evidence=0.0, episodes=64)
    code, out, _ = oel("history", "lake", "--root", tmp_path)
    assert (code, "1 trial, 0 promoted" in out, "the base model" in out) == (0, True, True)
    rows = [json.loads(line) for line in oel("history", "lake", "--root", tmp_path, "--json")[1].splitlines()]
    (trial,) = [row for row in rows if row["kind"] == "trial"]
    assert (trial["number"], trial["candidate"], trial["promoted"], trial["level"]) == (1, 1, False, 0.0125)


def test_the_files_of_a_run_are_named_so_that_a_shell_finds_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = open_run(tmp_path, "lake")
    (run.path / "round_01" / "accumulate").mkdir(parents=True)
    (run.path / "round_01" / "accumulate" / "knowledge_00.md").write_text("1. Ice is slippery.")
    where(run)
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("Knowledge")]
    shown = subprocess.run(["bash", "-c", f"cat {line.split()[1]}"], capture_output=True, text=True, check=True)
    assert shown.stdout == "1. Ice is slippery."


def test_status_tells_a_dead_holder_from_one_that_works(oel: Oel, tmp_path: Path) -> None:
    run = open_run(tmp_path, "lake")
    with run.leased("a test"):
        code, out, _ = oel("status", "--root", tmp_path)
        assert (code, "not in use" in out, f"lake: process {os.getpid()}" in out) == (0, False, True)
        lease = read_lease(run.path / LEASE)
    assert lease is not None
    gone = lease.holder.model_copy(update={"born": "7"})
    (run.path / LEASE).write_text(lease.model_copy(update={"holder": gone}).model_dump_json())
    assert "lake: not in use (exited without releasing the lease" in oel("status", "--root", tmp_path)[1]
    assert json.loads(oel("status", "--root", tmp_path, "--json")[1])["state"] == "dead"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number), "runs/a/collect.jsonl")

    monkeypatch.setattr(config, "load_config", full)
    assert call(["config", "show", "quickstart"]) == 1
    said = capsys.readouterr().err
    assert "runs/a/collect.jsonl cannot be written, the disk is full" in said
    assert len(said.strip().splitlines()) == 1


def test_other_errors_of_the_system_keep_their_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, "denied", "x")

    monkeypatch.setattr(config, "load_config", denied)
    with pytest.raises(PermissionError):
        call(["config", "show", "quickstart"])


def test_a_command_under_torchrun_is_no_rank_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "1"}
    for name, value in (given | {"RANKED": "kept"}).items():
        monkeypatch.setenv(name, value)
    ignore_launcher()
    assert not given.keys() & os.environ.keys()
    assert os.environ["RANKED"] == "kept"
