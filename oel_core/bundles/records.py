"""The files of a bundle: their names and records."""

from typing import Annotated, Literal

from pydantic import Field

from oel_core.types import Message, Record

MANIFEST, README, PROMPTS = "manifest.json", "README.txt", "prompts.jsonl"
MADE = "bundles.jsonl"
DIGEST = r"^[0-9a-f]{64}$"
"""SHA-256 in hexadecimal digits."""
KEYED = r"^[0-9a-f]{16}$"
"""What stands in place of an id: a digest with a key that the bundle's maker keeps."""


class BundleItem(Record):
    """One piece of knowledge."""

    text: str = Field(min_length=1)
    sources: tuple[Annotated[str, Field(pattern=KEYED)], ...]
    """Keyed digests of the ids of the episodes that gave it."""
    format: str = Field(pattern=r"^[a-z_]{1,40}$")
    """Extraction format; `other` for one that does not ship with the project."""
    support: int = Field(default=1, ge=1)
    """Episodes, over all replicas, whose extraction gave it."""


class BundleKnowledge(Record):
    """`knowledge_03.json`: the items of which `knowledge_03.md` consists, in order."""

    replica: int = Field(ge=0)
    items: tuple[BundleItem, ...]


class BundlePrompt(Record):
    """A line of `prompts.jsonl`: what the model read before one answer."""

    episode: int = Field(ge=0)
    """Position of the episode among those of the bundle, from 0 without a gap."""
    turn: int = Field(ge=0)
    messages: tuple[Message, ...] = Field(min_length=1)


class MadeBundle(Record):
    """A line of `bundles.jsonl` in a round's folder: a bundle of the round that was made."""

    digest: str = Field(pattern=DIGEST)
    prompts: int = Field(ge=0)


class BundleFile(Record):
    """Size and digest of one file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=DIGEST)


class BundleManifest(Record):
    """`manifest.json`. Its own SHA-256 is the bundle's digest, since it has the digests of all other files."""

    kind: Literal["oel-bundle"] = "oel-bundle"
    schema_version: Literal[1] = 1
    made_with: str = Field(pattern=r"^[0-9A-Za-z.+-]{1,40}$")
    """Version of the project that wrote it."""
    round: int = Field(ge=1)
    start_model: str = Field(pattern=DIGEST)
    """Digest of the weights, configuration and tokenizer of the model that the round starts from."""
    replicas: int = Field(ge=1)
    """Knowledge files."""
    items: int = Field(ge=0)
    """Knowledge items in all files."""
    episodes: int = Field(ge=0)
    """Episodes that the prompts come from; 0: knowledge only."""
    prompts: int = Field(ge=0)
    masked: dict[str, int]
    """Kind of private data (`email`, `secret`, ...) → pseudonyms in place of it, in all files."""
    files: dict[str, BundleFile]
    """Every file but this one."""
