"""Detects adapters on tied weights, which are refused.

With tied embeddings the input embedding and the output projection are one matrix. An adapter on either changes only
that one in training, but both once it is merged, so the merged model would differ from the trained one.
"""

from torch import nn

_WRAPPED = (".base_layer", ".original_module")
"""Suffixes of the modules that peft has wrapped."""
_ADVICE = (
    "an adapter on one changes both when it is merged, so the model that plays would not be the one that was trained. "
    "Leave it out of target_modules (`all-linear` does), or untie the model first: give both weights of their own, set "
    "tie_word_embeddings to false and save it"
)


def find_tied_adapter(model: nn.Module) -> str | None:
    """An error message where an adapter of a peft model is on tied weights, else None."""
    users: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    for modules in users.values():
        adapted = [name for name in modules if name.endswith(_WRAPPED)]
        others = [name for name in modules if name != adapted[0]] if adapted else []
        if others:
            return f"{_plain(adapted[0])} shares its weights with {_plain(others[0])}: {_ADVICE}"
    return None


def _plain(name: str) -> str:
    for suffix in _WRAPPED:
        name = name.removesuffix(suffix)
    return name
