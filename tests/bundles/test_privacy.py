"""Private data planted in every field of every log format is in no inbox, no bundle, no MLflow and no log."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from oel_core.bundles.making import make_bundle
from oel_core.config.run import ModelConfig
from oel_core.imports.importing import Import, import_logs
from oel_core.imports.privacy import SALT
from oel_core.plugins.builtin import LOG_FORMATS
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.projects.triggers import begin
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import adopt_config, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages.round import Stage, knowledge_stages, round_stages
from oel_core.types import Message, Trajectory
from tasks.tracking.client import LOOP, tracker_of
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.target import of_round
from tests.bundles.planting import PERSON, PLANTED, SECRETS, leaks, planted_logs
from tests.bundles.rounds import config, played, received
from tests.bundles.test_making import everything


def echo(messages: tuple[Message, ...], seed: int) -> str:
    """An extractor that copies all that it reads into its items: the worst there can be."""
    if "study one finished episode" not in messages[0].content:
        return f"And then, {seed % 1000}?"
    lines = [line for line in messages[-1].content.splitlines() if line.strip()]
    return "\n".join(f"- EXPERIENCE ITEM: {line}" for line in lines)


def load_echo(path: str, model: ModelConfig) -> Policy:
    return ScriptedPolicy(echo, batch_size=8)


ECHO = StageContext(load_echo)


def written(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder but salts, as text."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SALT:
            yield path, path.read_bytes().decode(errors="replace")


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inbox of all formats' logs with private data in each of their fields, imported with the names known."""
    root = tmp_path_factory.mktemp("planted")
    (root / "names.txt").write_text(f"{PERSON}\n")
    for format in LOG_FORMATS.builtin:
        folder = root / format
        folder.mkdir()
        for source in planted_logs(format, folder):
            import_logs(Import(format, source, root / "inbox" / format, "corridor", names=root / "names.txt"))
    return root / "inbox"


@pytest.mark.parametrize("format", LOG_FORMATS.builtin)
def test_no_planted_word_of_any_field_reaches_the_inbox(inbox: Path, format: str) -> None:
    found = {path.name: leaks(text) for path, text in written(inbox / format) if leaks(text)}
    assert found == {}
    episodes = [episode for path in (inbox / format).glob("*.jsonl") for episode in read_jsonl(path, Trajectory)]
    texts = "".join(message.content for episode in episodes for turn in episode.turns for message in turn.messages)
    assert all(f"<{kind}-" in texts for kind in ("email", "secret", "name"))  # it was planted where it is read


def gathered(root: Path, model: Path, inbox: Path) -> Round:
    """A round whose episodes are those of the inbox, and whose knowledge is all that they say."""
    folder = root / "all"
    folder.mkdir()
    for path in inbox.glob("*/*.jsonl"):
        (folder / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    settings = config(
        model,
        model={"path": str(model), "max_length": 200_000},
        experience={"inbox": str(folder), "min_episodes": 2},
        collect={"replicas": 1, "extraction_episodes": 1000},
        extract={"use_after": 1000, "with_previous": False, "sampling": {"max_tokens": 10**6}},
        knowledge={"max_tokens": 10**8},
        distill={"steps": 1, "episodes_per_step": 2000, "max_response_tokens": 4, "top_k": 4},
    )
    run = open_run(root, "user")
    begun = begin(settings, run, "t", 0)
    assert begun.round == 1
    return Round(settings, run, 1)


def run_published(round: Round, stages: list[Stage], tracking: TrackingSettings) -> None:
    """Runs stages as the flows do, with their results in MLflow."""
    adopt_config(round.run, round.config)
    tracker = tracker_of(tracking, round.run)
    tracker.log_config(round.config)
    with tracker.running(LOOP), tracker.running(str(round.number)):
        for stage in stages:
            manifest = stage.work(round, ECHO)
            publish(of_round(tracking, round), round, stage.name, manifest)


@pytest.mark.slow
def test_no_planted_word_is_in_the_bundle_in_mlflow_or_in_a_log(
    tmp_path: Path, model: Path, inbox: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    place = {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "artifact_location": (tmp_path / "artifacts").as_uri()}
    tracking = TrackingSettings(**place)
    here = gathered(tmp_path, model, inbox)
    run_published(here, knowledge_stages(here.config), tracking)
    bundle = make_bundle(here, tmp_path / "a.zip")
    assert bundle.manifest.masked.keys() >= {"email", "secret", "name"}
    assert leaks(everything(bundle.path)) == []
    there = received(
        tmp_path,
        model,
        bundle.path,
        collect={"replicas": 1, "extraction_episodes": 1},
        knowledge={"max_tokens": 1000},
        distill={"steps": 1, "episodes_per_step": 1, "max_response_tokens": 4, "top_k": 4},
    )
    run_published(there, round_stages(there), tracking)
    assert {path.name: leaks(text) for path, text in written(tmp_path) if leaks(text)} == {}
    captured = capfd.readouterr()
    assert leaks(caplog.text + captured.out + captured.err) == []


def test_a_bundle_is_a_door_too_for_what_was_never_imported(tmp_path: Path, model: Path) -> None:
    def respond(messages: tuple[Message, ...], seed: int) -> str:
        item = f"- EXPERIENCE ITEM: ask {PLANTED}, note {seed % 100}"
        return item if "study one" in messages[0].content else f"I go [left] says {PLANTED}"

    def loaded(path: str, model: ModelConfig) -> Policy:
        return ScriptedPolicy(respond, batch_size=4)

    round = played(tmp_path, model, context=StageContext(loaded))
    assert all(secret in round.merged_knowledge()[0].text for secret in SECRETS)
    whole = make_bundle(round, tmp_path / "a.zip", names=[PERSON])
    assert leaks(everything(whole.path)) == []
    assert whole.manifest.masked.keys() == {"email", "secret", "name"}
    bare = make_bundle(round, tmp_path / "b.zip")
    assert PERSON in everything(bare.path)  # a name that nobody listed is not known
