"""Options of all stage tasks. Manifests determine what is skipped, so Prefect's caching and persistence are off.

Flows call tasks directly instead of submitting them: stages run one after the other anyway, and a second computing
thread gives OpenMP a second thread pool, which oversubscribes the cores. Small models were 2.6 times slower that way.
"""

from typing import Any

from prefect.cache_policies import NO_CACHE

from tasks.retries import worth_retrying

STAGE_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [2, 20],
    "retry_condition_fn": worth_retrying,
}
"""Options of every stage's `prefect.task`."""
