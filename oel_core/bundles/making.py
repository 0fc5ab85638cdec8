"""`make_bundle` exports a round's knowledge and prompts as an archive with private data masked."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from oel_core import __version__
from oel_core.bundles.archive import write_archive
from oel_core.bundles.description import describe
from oel_core.bundles.reading import Bundle
from oel_core.bundles.recorded import recorded_text
from oel_core.bundles.records import (
    MADE,
    MANIFEST,
    PROMPTS,
    README,
    BundleFile,
    BundleItem,
    BundleKnowledge,
    BundleManifest,
    BundlePrompt,
    MadeBundle,
)
from oel_core.config.run import OelConfig
from oel_core.errors import ArtifactError, ConfigError
from oel_core.imports.privacy import PSEUDONYM, Masking, salt_of
from oel_core.knowledge.store import paths
from oel_core.models.checkpoints import model_digest
from oel_core.plugins.builtin import FORMATS
from oel_core.rounds.prompts import prompts_of
from oel_core.rounds.round import Round
from oel_core.runs.jsonl import JsonlWriter, jsonl_bytes, recover_jsonl
from oel_core.types import ExperienceItem, Knowledge, Split

FOREIGN = "other"


def _masking(round: Round, names: Sequence[str]) -> Masking:
    """The masking of private data and ids, with the pseudonyms of the round's inbox.

    The salt is kept in the inbox's folder, or in the run's if there is no inbox.
    """
    inbox = round.config.experience.inbox
    return Masking(salt_of(round.run.path if inbox is None else Path(inbox)), names)


def make_bundle(round: Round, path: Path, *, knowledge_only: bool = False, names: Sequence[str] = ()) -> Bundle:
    """Writes the bundle of a round with finished knowledge and records its digest in the round's `bundles.jsonl`.

    The archive is reproducible byte for byte.

    Args:
        knowledge_only: leave the prompts out.
        names: names to mask in addition to the patterns (`Masking`).

    Raises:
        ConfigError: as `require_sharable`.
        ArtifactError: a stage has not finished, a text is a recorded episode, or a different file exists at `path`.
    """
    require_sharable(round.config)
    round.distilled_stage().manifest()  # says which stage has not finished
    masking, knowledge = _masking(round, names), round.knowledge().knowledge
    files = dict(_knowledge(round, knowledge, masking))
    prompts = [] if knowledge_only else list(_prompts(round, masking))
    if prompts:
        files[PROMPTS] = jsonl_bytes(prompts)
    manifest = _manifest(round, knowledge, files, prompts)
    files[README] = ("\n\n".join(describe(manifest)) + "\n").encode()
    manifest = manifest.model_copy(update={"files": manifest.files | {README: _file(files[README])}})
    files[MANIFEST] = (manifest.model_dump_json(indent=1) + "\n").encode()
    write_archive(path, files)
    bundle = Bundle.open(path)
    _note(round, bundle)
    return bundle


def made_bundles(round: Round) -> list[str]:
    """Digests of the round's bundles, oldest first."""
    return [made.digest for made in recover_jsonl(round.path / MADE, MadeBundle)]


def _note(round: Round, bundle: Bundle) -> None:
    """Records the bundle in the round's folder, once."""
    if bundle.digest not in made_bundles(round):
        with JsonlWriter(round.path / MADE) as writer:
            writer.append(MadeBundle(digest=bundle.digest, prompts=bundle.manifest.prompts))


def require_sharable(config: OelConfig) -> None:
    """Raises ConfigError if the round's knowledge is raw episodes or is sampled with weights."""
    if config.knowledge.source.use == "raw":
        raise ConfigError(
            "knowledge.source.use is raw: such knowledge is recorded episodes, which do not leave the machine. Set it "
            "to extracted"
        )
    if config.knowledge.selection.use == "weighted":
        raise ConfigError("knowledge.selection.use is weighted, and a bundle has no weights: set it to top_m or all")


def _knowledge(round: Round, knowledge: Sequence[Knowledge], masking: Masking) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the knowledge files."""
    for replica, entry in enumerate(knowledge):
        items = tuple(_item(round, item, masking) for item in entry.items)
        text = "\n".join(item.text for item in items)
        wrong = recorded_text(text)
        if wrong:
            raise ArtifactError(f"round {round.number}, knowledge of replica {entry.replica}: {wrong}: drop that item")
        text_path, sidecar = paths(Path(), replica)
        yield text_path.name, text.encode()
        record = BundleKnowledge(replica=replica, items=items)
        yield sidecar.name, (record.model_dump_json(indent=1) + "\n").encode()


def _item(round: Round, item: ExperienceItem, masking: Masking) -> BundleItem:
    return BundleItem(
        text=masking.text(item.text),
        sources=tuple(masking.id(f"{round.run.name}/{source}") for source in item.sources),
        format=item.format if item.format in FORMATS.builtin else FOREIGN,
        support=item.support,
    )


def _prompts(round: Round, masking: Masking) -> Iterator[BundlePrompt]:
    """The prompts of the episodes for distillation, in the order of the training steps."""
    episodes = [episode for episode in round.trajectories(Split.DISTILL) if episode.turns]
    for number, episode in enumerate(episodes):
        for prompt in prompts_of(episode, round.config.experience.distill_turns):
            messages = tuple(map(masking.message, prompt.messages))
            wrong = next(filter(None, (recorded_text(message.content) for message in messages)), None)
            if wrong:
                raise ArtifactError(
                    f"{episode.id}, the prompt of turn {prompt.turn} cannot leave this machine: {wrong}"
                )
            yield BundlePrompt(episode=number, turn=prompt.turn, messages=messages)


def _manifest(
    round: Round, knowledge: Sequence[Knowledge], files: Mapping[str, bytes], prompts: Sequence[BundlePrompt]
) -> BundleManifest:
    """The manifest without the description's entry, since the description is generated from it."""
    texts = [data.decode() for name, data in files.items() if not name.endswith(".json")]
    found = Counter(match[1] for text in texts for match in PSEUDONYM.finditer(text))
    return BundleManifest(
        made_with=__version__,
        round=round.number,
        start_model=model_digest(round.student()),
        replicas=len(knowledge),
        items=sum(len(entry.items) for entry in knowledge),
        episodes=len({prompt.episode for prompt in prompts}),
        prompts=len(prompts),
        masked=dict(sorted(found.items())),
        files={name: _file(data) for name, data in sorted(files.items())},
    )


def _file(data: bytes) -> BundleFile:
    return BundleFile(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
