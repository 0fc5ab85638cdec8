"""Names and records of a bundle's files."""

from typing import Annotated, Literal

from pydantic import Field

from oel_core.types import Message, Record

MANIFEST, README, PROMPTS = "manifest.json", "README.txt", "prompts.jsonl"
MADE = "bundles.jsonl"
DIGEST = r"^[0-9a-f]{64}$"
"""SHA-256 in hexadecimal digits."""
KEYED = r"^[0-9a-f]{16}$"
"""Replacement of an id: a keyed digest whose key stays on the exporting machine."""


class BundleItem(Record):
    """One piece of knowledge."""

    text: str = Field(min_length=1)
    sources: tuple[Annotated[str, Field(pattern=KEYED)], ...]
    """Keyed digests of the ids of its source episodes."""
    format: str = Field(pattern=r"^[a-z_]{1,40}$")
    """Extraction format; `other` for a plug-in's."""
    support: int = Field(default=1, ge=1)
    """Number of source episodes over all replicas."""


class BundleKnowledge(Record):
    """`knowledge_03.json`: the items of `knowledge_03.md`, in order."""

    replica: int = Field(ge=0)
    items: tuple[BundleItem, ...]


class BundlePrompt(Record):
    """A line of `prompts.jsonl`: the prompt of one turn."""

    episode: int = Field(ge=0)
    """Index of the episode in the bundle, from 0 without gaps."""
    turn: int = Field(ge=0)
    messages: tuple[Message, ...] = Field(min_length=1)


class MadeBundle(Record):
    """A line of `bundles.jsonl` in a round's folder: an exported bundle."""

    digest: str = Field(pattern=DIGEST)
    prompts: int = Field(ge=0)


class BundleFile(Record):
    """Size and digest of one file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=DIGEST)


class BundleManifest(Record):
    """`manifest.json`. It has the digests of all other files, so its SHA-256 is the bundle's digest."""

    kind: Literal["oel-bundle"] = "oel-bundle"
    schema_version: Literal[1] = 1
    made_with: str = Field(pattern=r"^[0-9A-Za-z.+-]{1,40}$")
    """Version of the project that wrote it."""
    round: int = Field(ge=1)
    start_model: str = Field(pattern=DIGEST)
    """Digest of weights, configuration and tokenizer of the model that the round's distillation starts from."""
    replicas: int = Field(ge=1)
    """Number of knowledge files."""
    items: int = Field(ge=0)
    """Number of knowledge items in all files."""
    episodes: int = Field(ge=0)
    """Number of episodes of the prompts; 0: knowledge only."""
    prompts: int = Field(ge=0)
    masked: dict[str, int]
    """Kind of private data (`email`, `secret`, ...) → number of its pseudonyms in all files."""
    files: dict[str, BundleFile]
    """All files except this one."""
