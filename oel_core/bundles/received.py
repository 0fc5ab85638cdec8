"""Converts a bundle's knowledge to the round's own knowledge files."""

from pathlib import Path

from oel_core.bundles.reading import Bundle
from oel_core.bundles.records import BundleKnowledge
from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.knowledge.hygiene import FlaggedItem, screen
from oel_core.knowledge.store import empty, merge
from oel_core.policies.base import Policy
from oel_core.prompts.extraction import get_format
from oel_core.rounds.round import Round
from oel_core.types import ExperienceItem, Knowledge


def bundle_of(config: OelConfig) -> Bundle:
    """The bundle of `experience.bundle`.

    Raises:
        ArtifactError: as `Bundle.open`.
        ConfigError: `collect.replicas` differs from its number of knowledge files.
    """
    assert config.experience.bundle is not None  # the caller has asked
    bundle = Bundle.open(Path(config.experience.bundle), config.experience.bundle_digest)
    if bundle.manifest.replicas != config.collect.replicas:
        raise ConfigError(
            f"{bundle.path} has {bundle.manifest.replicas} knowledge files, but collect.replicas is "
            f"{config.collect.replicas}: set collect.replicas={bundle.manifest.replicas}"
        )
    return bundle


def bundle_source(
    round: Round, entry: BundleKnowledge, model: str, policy: Policy
) -> tuple[Knowledge, list[FlaggedItem]]:
    """One of the bundle's knowledge files as the round's, and the items flagged by hygiene.

    Tokens are counted with this model's tokenizer; the oldest items are dropped to fit the cap.

    Args:
        model: recorded as the extractor of the items.
    """
    config = round.config
    items = tuple(
        ExperienceItem(
            text=item.text,
            sources=item.sources,
            round=round.number,
            format=item.format,
            model=model,
            support=item.support,
        )
        for item in entry.items
    )
    kept, flagged = screen(items, (), config.knowledge.hygiene, entry.replica)
    merged = merge(
        empty(entry.replica, round.number),
        kept,
        max_tokens=config.knowledge.max_tokens,
        form=get_format(config.extract.format),
        count_tokens=policy.count_tokens,
    )
    return merged, flagged
