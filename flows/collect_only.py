"""The champion plays episodes and writes them to an inbox, as a deployment would."""

import re
from pathlib import Path

from prefect import flow

from flows.evaluate_model import model_path
from oel_core.config.run import OelConfig
from oel_core.envs.base import env_spec
from oel_core.models.threads import set_run_threads
from oel_core.policies import load_policy
from oel_core.preflight.check import check
from oel_core.projects.triggers import file_stem
from oel_core.rollouts.planning import plan_episodes
from oel_core.rollouts.playing import play_episodes
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import open_run
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.round_start import last_begun
from oel_core.seeds import SEEDINGS
from oel_core.types import Split
from tasks.tracking.registry import CHAMPION

REPLICA = 127
"""Replica number of the seeds used here, distinct from those of rounds. With `environment.seeds: paper` all replicas
play the same boards, and so do these episodes."""


@flow(name="collect-only", flow_run_name="{name} collect")
def collect_only(config: OelConfig, name: str, inbox: Path, episodes: int, trigger: str, root: Path) -> Path:
    """Plays `episodes` new training episodes and returns their file; idempotent per trigger."""
    check(config)
    run = open_run(root, name)
    inbox.mkdir(parents=True, exist_ok=True)
    stem = file_stem(trigger)
    with run.leased(f"collect-only, trigger {trigger}"):
        done = _left(inbox, name, stem)
        if done is not None:
            return done
        set_run_threads(run.path, config.model)
        round_index = last_begun(run) + 1
        first = _played(inbox, name, round_index)
        plans = plan_episodes(
            env_spec(config),
            config.seed,
            Split.EXTRACT,
            round_index,
            REPLICA,
            first + episodes,
            split_by_layout=config.environment.split_by_layout,
            seeding=SEEDINGS[config.environment.seeds],
        )[first:]
        policy = load_policy(model_path(config, CHAMPION, name, root), config.model)
        played = list(play_episodes(policy, env_spec(config), plans, config.play, seed=config.seed))
        path = inbox / f"{name}-r{round_index:02d}-{first + episodes:06d}-{stem}.jsonl"
        write_atomic(path, jsonl_bytes(played))
        return path


def _left(inbox: Path, name: str, stem: str) -> Path | None:
    """The file of exactly this trigger and project (one name may be a prefix of another), or None."""
    one = re.compile(rf"{re.escape(name)}-r\d{{2,}}-\d{{6}}-{re.escape(stem)}\.jsonl")
    return next((path for path in sorted(inbox.iterdir()) if one.fullmatch(path.name)), None)


def _played(inbox: Path, name: str, round_index: int) -> int:
    """Number of this round's seeds that earlier calls have used, from the file names."""
    prefix = f"{name}-r{round_index:02d}-"
    ends = [path.name.removeprefix(prefix)[:6] for path in inbox.glob(f"{prefix}*.jsonl")]
    return max((int(end) for end in ends if end.isdigit()), default=0)
