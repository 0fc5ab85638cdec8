"""Whether the Hugging Face hub can be asked, found out in seconds rather than in the hub client's many retries."""

from pathlib import Path

from oel_core.errors import PolicyError

HUB_PATIENCE_S = 5.0
"""Seconds that the hub may take for its first answer."""

_answered: set[str] = set()
"""Addresses that gave an answer to this process; a connection that is lost later is the client's to retry."""


def cached_file(hub_id: str, name: str) -> Path | None:
    """A model's file in the local hub cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, name)
    return Path(found) if isinstance(found, str) else None


def hub_answers() -> bool:
    """Whether the hub, or the mirror that `HF_ENDPOINT` names, answers at all. Asked until it did once."""
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    if constants.ENDPOINT not in _answered:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_PATIENCE_S)
        except Exception:  # whatever keeps the hub from answering, the answer is the same
            return False
        _answered.add(constants.ENDPOINT)
    return True


def require_hub(hub_id: str) -> None:
    """Raises PolicyError for a model that is not in the local cache while the hub does not answer."""
    if cached_file(hub_id, "config.json") is None and not hub_answers():
        raise PolicyError(
            f"there is no folder {hub_id} here, and the model hub does not answer: check the path, or download the "
            "model where the hub can be reached and name its folder"
        )
