"""Weights that modules of a model share, and why an adapter may not stand on one of them.

A model with tied embeddings has one matrix for its first layer and its last. An adapter on either is trained beside
that matrix, where it changes one of the two. Merged into the matrix it changes both, so the merged model is another
one than the trained, and nothing in an adapter's folder says so to whoever merges it.
"""

from torch import nn

_WRAPPED = (".base_layer", ".original_module")
"""How peft calls what it has put an adapter on, or a trained copy beside."""
_ADVICE = (
    "an adapter on one changes both when it is merged, so the model that plays would not be the one that was trained. "
    "Leave it out of target_modules (`all-linear` does), or untie the model first: give both weights of their own, set "
    "tie_word_embeddings to false and save it"
)


def tied_message(module: str, other: str) -> str:
    """Why `module` can have no adapter: it shares its weights with `other`."""
    return f"{module} shares its weights with {other}: {_ADVICE}"


def find_tied_adapter(model: nn.Module) -> str | None:
    """What is wrong with the adapter of a model that peft has wrapped; None where it stands on weights of its own."""
    users: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    for modules in users.values():
        adapted = [name for name in modules if name.endswith(_WRAPPED)]
        others = [name for name in modules if name != adapted[0]] if adapted else []
        if others:
            return tied_message(_plain(adapted[0]), _plain(others[0]))
    return None


def _plain(name: str) -> str:
    for suffix in _WRAPPED:
        name = name.removesuffix(suffix)
    return name
