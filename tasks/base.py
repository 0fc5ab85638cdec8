"""What all stage tasks have in common. Manifests decide what is skipped, so Prefect caches and persists nothing.

Flows call stages, they do not submit them: stages share one model and take turns anyway, and with a second thread that
computes, OpenMP keeps a second set of threads, counts more of them than there are cores, and puts them to sleep at
every barrier. Small models were 2.6 times slower that way.
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
