"""What all stage tasks have in common. Manifests decide what is skipped, so Prefect caches and persists nothing."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.retries import worth_retrying

STAGE_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [2, 20],
    "retry_condition_fn": worth_retrying,
}
"""Options of every stage's `prefect.task`."""


def one_model() -> Any:
    """A task runner for tasks that share one loaded model, and so take turns."""
    return ThreadPoolTaskRunner(max_workers=1)
