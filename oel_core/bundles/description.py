"""Describes a bundle's content as text: its `README.txt`, and the output of `oel bundle show`."""

from oel_core.bundles.records import PROMPTS, BundleManifest

_KINDS = {
    "email": "e-mail addresses",
    "phone": "phone numbers",
    "card": "payment card numbers",
    "account": "bank account numbers",
    "name": "listed names",
    "secret": "secrets",
}


def describe(manifest: BundleManifest) -> list[str]:
    """The description, in paragraphs."""
    return [
        f"Knowledge and prompts for one round of distillation, round {manifest.round}, written by oel "
        f"{manifest.made_with}.",
        f"Knowledge: {_count(manifest.items, 'item')} in {_count(manifest.replicas, 'file')} (knowledge_NN.md is what "
        "the teacher reads, knowledge_NN.json its items). The items were written by a model about its own episodes. "
        "Each has keyed digests of these episodes; only the machine that made the bundle can say which they are.",
        _prompts(manifest),
        _private(manifest),
        "Not in it: the answers to these prompts, rewards, feedback, token ids, seeds, ids of sessions and users, the "
        "names of the environment and of models.",
        f"For the model whose files have the digest {manifest.start_model}.",
    ]


def _prompts(manifest: BundleManifest) -> str:
    if not manifest.prompts:
        return "Prompts: none. The machine that distils writes prompts of its own from the knowledge."
    return (
        f"Prompts: {manifest.prompts} of {_count(manifest.episodes, 'episode')} ({PROMPTS}). A prompt is what the "
        "model read before one answer: instructions, functions, what users and tools wrote, and the model's own "
        "earlier answers in that conversation."
    )


def _private(manifest: BundleManifest) -> str:
    found = [f"{_KINDS.get(kind, kind)}: {count}" for kind, count in sorted(manifest.masked.items())]
    what = f"Pseudonyms stand in place of private data ({', '.join(found)})." if found else "No private data was found."
    return f"{what} It was looked for by patterns and by the names that the maker listed; other names can be in it."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
