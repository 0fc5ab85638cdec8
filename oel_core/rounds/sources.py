"""Knowledge from other sources than the round's extraction: raw episodes, or the knowledge files of another run.

Raw episodes are the paper's ablation (arXiv 2603.16856); a folder holds another model's knowledge of its own episodes.
"""

from collections.abc import Sequence
from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation.games import raw_episodes
from oel_core.knowledge.hygiene import FlaggedItem, screen
from oel_core.knowledge.store import empty, load_knowledge, merge, paths, render
from oel_core.policies.base import Policy
from oel_core.prompts.extraction import get_format
from oel_core.rounds.round import Round
from oel_core.runs.manifest import digest_bytes, digest_file
from oel_core.types import ExperienceItem, Knowledge, Trajectory

RAW_FORMAT = "raw"


def raw_source(round: Round, replica: int, episodes: Sequence[Trajectory], policy: Policy) -> Knowledge:
    """A replica's newest episodes that fit the cap, of the first `use_after`, formatted as for extraction."""
    config = round.config
    used = episodes[: config.use_after]
    kept = raw_episodes(used, config.knowledge_cap, policy.count_tokens, config.extract.turns_shown)
    items = tuple(
        ExperienceItem(
            text=text if number == len(kept) else f"{text}\n",
            sources=(episode.id,),
            round=round.number,
            format=RAW_FORMAT,
            model=episode.policy,
        )
        for number, (episode, text) in enumerate(kept, start=1)
    )
    text = render(items)
    tokens = policy.count_tokens(text) if text else 0
    left_out = len(used) - len(kept)
    return Knowledge(
        replica=replica, round=round.number, items=items, text=text, tokens=tokens, dropped_over_cap=left_out
    )


def folder_source(round: Round, replica: int, policy: Policy) -> tuple[Knowledge, list[FlaggedItem]]:
    """Another run's file for this replica, and the items that hygiene flagged in it.

    Tokens are counted with this model's tokenizer; the oldest items are dropped to fit the cap.

    Raises:
        ArtifactError: the file is missing, not a knowledge file, or edited.
    """
    config = round.config
    found = load_knowledge(_folder(config), replica)
    kept, flagged = screen(found.items, (), config.knowledge.hygiene, replica)
    merged = merge(
        empty(replica, round.number),
        kept,
        max_tokens=config.knowledge.max_tokens,
        form=get_format(config.extract.format),
        count_tokens=policy.count_tokens,
    )
    return merged, flagged


def folder_digest(config: OelConfig) -> str:
    """Digest of the other run's files, as a stage input.

    Raises:
        ConfigError: the folder does not hold a file for every replica.
    """
    folder = _folder(config)
    files = [path for replica in range(config.collect.replicas) for path in paths(folder, replica)]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ConfigError(
            f"knowledge.source.folder: {folder} has no {missing[0]}: name the accumulate stage of a run with at least "
            f"{config.collect.replicas} replicas, or lower collect.replicas"
        )
    return digest_bytes("\n".join(digest_file(path) for path in files).encode())


def _folder(config: OelConfig) -> Path:
    assert config.knowledge.source.folder is not None  # validated by the configuration
    return Path(config.knowledge.source.folder)
