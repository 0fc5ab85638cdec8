"""`runner: ray` on a real Ray cluster of two nodes on this machine: what `runner: local` gives, through every loss.

The nodes are Ray's own cluster for tests (`ray.cluster_utils`): each has its raylet, its object store and its workers,
and is killed as a whole.
"""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from oel_core.config.run import OelConfig, parse_config
from oel_core.envs.base import EnvSpec
from oel_core.imports.importing import Import, import_logs
from oel_core.imports.privacy import SALT, Privacy
from oel_core.policies import release
from oel_core.rollouts import layouts
from oel_core.rollouts.planning import plan_episodes
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.progress import Progress, silent
from oel_core.stages.round import round_stages
from oel_core.types import EvalReport, Split, Trajectory
from tests.builders import timeless

pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make test-scale"),
]
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}

LOGS = Path(__file__).parents[2] / "examples/logs/chat.jsonl"
PLAYED = ("collect", "extract", "accumulate", "select")


class Killed(Exception):
    """Stands for a process that ends here."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - the name is Ray's
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    yield made
    release()
    ray.shutdown()
    made.shutdown()


def config(cluster: Any, use: str) -> OelConfig:
    """A round of the seed model without training: a minute."""
    runner = {"use": use, "address": cluster.address, "workers": 2, "cpus": 1.0}
    return parse_config(
        {
            "rounds": 1,
            "model": {"path": "seed-lm", "batch_size": 4, "max_length": 1024},
            "environment": {"options": {"size": 4, "holes": 3, "traps": 1, "key": True}, "max_turns": 4},
            "play": {"history_turns": 0, "sampling": {"temperature": 0.7, "max_tokens": 32}},
            "collect": {"replicas": 2, "extraction_episodes": 4},
            "extract": {"with_previous": False, "turns_shown": 4, "sampling": {"temperature": 0.0, "max_tokens": 48}},
            "knowledge": {"max_tokens": 128, "selection": {"use": "top_m", "m": 1, "episodes": 4}},
            "distill": {"steps": 2, "episodes_per_step": 8, "max_response_tokens": 8, "top_k": 8},
            "evaluate": {
                "games": {"episodes": 8, "sampling": {"max_tokens": 32}},
                "ood": {"python_code": {"episodes": 8, "sampling": {"max_tokens": 32}}},
            },
            "runner": runner,
        },
        "test",
    )


def play(root: Path, config: OelConfig, on_progress: Progress = silent) -> RunFolder:
    """The base model's evaluation, and round 1 up to its knowledge."""
    run = open_run(root, "run")
    adopt_config(run, config)
    context = StageContext(on_progress=on_progress)
    for stage in round_stages(Round(config, run, 0)):
        stage.work(Round(config, run, 0), context)
    for stage in round_stages(Round(config, run, 1)):
        if stage.name in PLAYED:
            stage.work(Round(config, run, 1), context)
    return run


def outcome(run: RunFolder) -> dict[str, Any]:
    """Everything that was written, without times."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in run.path.rglob("*") if path.is_file()):
        name = path.relative_to(run.path).as_posix()
        if path.name in ("trajectories.jsonl", "episodes.jsonl"):
            found[name] = timeless(read_jsonl(path, Trajectory))
        elif path.name == "report.json":
            found[name] = EvalReport.model_validate_json(path.read_bytes()).passed
        elif path.name not in ("manifest.json", "config.yaml"):
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def expected(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = outcome(play(tmp_path_factory.mktemp("local"), config(cluster, "local")))
    assert sum(name.endswith("episodes.jsonl") for name in found) >= 2
    assert any("knowledge_" in name for name in found)
    return found


def while_collecting(act: Callable[[], None]) -> Progress:
    """Acts once, when the fifth of 24 episodes is written and the third and fourth group of four are played."""
    left = [act]

    def on_progress(done: int, total: int) -> None:
        if (done, total) == (5, 24) and left:
            left.pop()()

    return on_progress


def kill_an_actor() -> None:
    """SIGKILL of a worker's process."""
    found = [one for one in psutil.Process().children(recursive=True) if "ray::_Copy" in " ".join(one.cmdline())]
    assert len(found) == 2
    found[0].send_signal(signal.SIGKILL)


def test_the_runner_changes_no_byte(cluster: Any, expected: dict[str, Any], tmp_path: Path) -> None:
    assert outcome(play(tmp_path, config(cluster, "ray"))) == expected


@pytest.mark.parametrize("privacy", [Privacy.MASK, Privacy.DROP])
def test_an_import_has_the_same_bytes(cluster: Any, tmp_path: Path, privacy: Privacy) -> None:
    found = []
    for use in ("local", "ray"):
        inbox = tmp_path / use
        inbox.mkdir()
        (inbox / SALT).write_bytes(b"0" * 32)
        runner = config(cluster, use).runner
        done = import_logs(Import("openai-chat", LOGS, inbox, "shop", privacy, runner=runner))
        assert done.file is not None
        found.append((done, (inbox / done.file).read_bytes()))
    assert found[0] == found[1]


def test_layouts_of_slow_games_are_found_by_the_workers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("textworld_coin", {"level": 3})
    plans = []
    for use in ("ray", "local"):
        monkeypatch.setattr(layouts, "_cached", {})
        plans.append(plan_episodes(spec, 7, Split.HELD_OUT, 0, 0, 4, True, runner=config(cluster, use).runner))
    assert plans[0] == plans[1]


@pytest.mark.parametrize(("first", "second"), [("local", "ray"), ("ray", "local")])
def test_a_run_goes_on_with_the_other_runner(
    cluster: Any, expected: dict[str, Any], tmp_path: Path, first: str, second: str
) -> None:
    def end() -> None:
        raise Killed

    with pytest.raises(Killed):
        play(tmp_path, config(cluster, first), while_collecting(end))
    assert outcome(play(tmp_path, config(cluster, second))) == expected


def test_a_killed_worker_is_replaced_and_its_episodes_are_played_again(
    cluster: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    assert outcome(play(tmp_path, config(cluster, "ray"), while_collecting(kill_an_actor))) == expected


def test_a_killed_node_is_done_without_until_there_is_another(
    cluster: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    (other,) = cluster.worker_nodes
    kill = lambda: cluster.remove_node(other, allow_graceful=False)  # noqa: E731
    assert outcome(play(tmp_path / "fewer", config(cluster, "ray"), while_collecting(kill))) == expected
    cluster.add_node(**NODE)
    assert outcome(play(tmp_path / "again", config(cluster, "ray"))) == expected
