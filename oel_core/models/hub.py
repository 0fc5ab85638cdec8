"""Checks within seconds whether the Hugging Face hub is reachable, instead of after the hub client's retries."""

from pathlib import Path

from oel_core.errors import PolicyError

HUB_TIMEOUT_S = 5.0
"""Timeout of the first request, seconds."""

_answered: set[str] = set()
"""Endpoints that responded to this process; later connection errors are retried by the client."""


def cached_file(hub_id: str, name: str) -> Path | None:
    """A model's file in the local hub cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, name)
    return Path(found) if isinstance(found, str) else None


def hub_answers() -> bool:
    """Whether the hub, or the mirror in `HF_ENDPOINT`, responds. A positive result is cached."""
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    if constants.ENDPOINT not in _answered:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
        except Exception:  # any failure means unreachable
            return False
        _answered.add(constants.ENDPOINT)
    return True


def require_hub(hub_id: str) -> None:
    """Raises PolicyError for a model that is not in the local cache while the hub is unreachable."""
    if cached_file(hub_id, "config.json") is None and not hub_answers():
        raise PolicyError(
            f"there is no folder {hub_id} here, and the model hub does not answer: check the path, or download the "
            "model where the hub can be reached and name its folder"
        )
