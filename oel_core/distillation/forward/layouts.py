"""Chooses the packed, cached or padded forward by an equivalence check against plain forwards.

The check works for any architecture: on a few random tokens, a layout whose hidden states differ from those of plain
forwards by more than rounding is not used.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from oel_core.distillation.forward.scoring import PrefixGroup, Text, packed_hidden, padded_hidden
from oel_core.distillation.forward.split_model import SplitModel
from oel_core.distillation.teachers.shared_prefix import compute_prefix
from oel_core.errors import DistillationError
from oel_core.models.adapters import plain_model
from oel_core.policies.hf.decoding import evaluating

logger = logging.getLogger(__name__)

Layout = Callable[[SplitModel, Sequence[int], Sequence[Text]], Tensor]
"""Hidden states (N, H) of texts that continue a common prefix."""
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.1}
"""Maximum absolute difference, relative to the largest value."""
_REFUSALS = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""Exceptions of architectures that do not support a layout."""


def _full(split: SplitModel, prefix: Sequence[int], texts: Sequence[Text]) -> Tensor:
    return padded_hidden(split, [Text([*prefix, *text.prompt], text.response) for text in texts])


def _packed(split: SplitModel, prefix: Sequence[int], texts: Sequence[Text]) -> Tensor:
    return packed_hidden(split, [PrefixGroup([Text([*prefix, *text.prompt], text.response) for text in texts])])


def _shared(split: SplitModel, prefix: Sequence[int], texts: Sequence[Text]) -> Tensor:
    return packed_hidden(split, [PrefixGroup(texts, compute_prefix(split, prefix), len(prefix))])


def _cached(split: SplitModel, prefix: Sequence[int], texts: Sequence[Text]) -> Tensor:
    cache = compute_prefix(split, prefix)
    if not all(hasattr(layer, "keys") for layer in cache.cache.layers):
        raise DistillationError("its cache holds more than keys and values")
    return padded_hidden(split, texts, cache.for_rows(len(texts)))


_LAYOUTS: dict[str, Layout] = {"packed": _packed, "shared": _shared, "cached": _cached, "padded": _full, "full": _full}
STUDENT_LAYOUTS = ("packed", "padded")
TEACHER_LAYOUTS = ("shared", "cached", "full")


def choose_layout(split: SplitModel, wanted: str, candidates: Sequence[str], max_length: int | None = None) -> str:
    """The first candidate that this model supports, or the requested one after the same check.

    Args:
        split: the model.
        wanted: a candidate, or `auto`.
        candidates: fastest first; the last one is supported by every model.
        max_length: maximum sequence length, tokens; None means the model's context length. Layouts without a sliding
            window are not used for a model whose window is shorter.

    Raises:
        DistillationError: the requested layout fails the equivalence check.
    """
    for name in candidates[:-1] if wanted == "auto" else [wanted]:
        problem = None if name in ("padded", "full") else _problem(split, name, max_length)
        if problem is None:
            return name
        if wanted != "auto":
            raise DistillationError(
                f"{_name(split)} does not support the layout '{name}': {problem}. Set the layout to auto"
            )
        logger.info("%s does not support the layout '%s': %s", _name(split), name, problem)
    return candidates[-1]


def _name(split: SplitModel) -> str:
    return type(plain_model(split.model)).__name__


def _problem(split: SplitModel, name: str, max_length: int | None) -> str | None:
    config = plain_model(split.model).config.get_text_config()
    if name in ("packed", "shared"):
        window = getattr(config, "sliding_window", None)
        unnamed = ["sliding_attention" if window else "full_attention"]
        kinds = set(getattr(config, "layer_types", None) or unnamed)
        length = max_length or getattr(config, "max_position_embeddings", None) or 0
        if kinds - {"full_attention", "sliding_attention"}:
            return f"it has layers of the kind {', '.join(sorted(kinds))}"
        if window and "sliding_attention" in kinds and window < length:
            return f"its window of {window} tokens is shorter than {length}"
    return _differs(split, name)


@torch.no_grad()
def _differs(split: SplitModel, name: str) -> str | None:
    """Why a layout fails the equivalence check, or None. Restores training mode and random generators."""
    prefix, texts = _sample_texts(split.vocabulary)
    ids = torch.tensor([[*prefix, *texts[0].prompt]], device=split.device)
    try:
        with evaluating(split.model):
            wanted = _full(split, prefix, texts)
            found = _LAYOUTS[name](split, prefix, texts)
            logits = split.logits(wanted[:1])
            plain = split.model(input_ids=ids).logits[:, -1]
    except _REFUSALS as error:
        return f"{type(error).__name__}: {error}"
    limit = _TOLERANCE.get(wanted.dtype, 0.1)
    for ours, theirs in ((found, wanted), (logits, plain)):
        size = theirs.float().nan_to_num(0, 0, 0).abs().max()  # non-finite weights are reported by the training step
        if not torch.allclose(ours.float(), theirs.float(), rtol=0, atol=float(size) * limit, equal_nan=True):
            return "its hidden states differ from those of plain forwards"
    return None


def _sample_texts(vocabulary: int) -> tuple[list[int], list[Text]]:
    """A prefix, and texts of several lengths of which some share a prefix."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (120,), generator=generator).tolist()
    common = ids[40:60]
    return ids[:24], [
        Text([*common, *ids[60:70]], ids[70:80]),
        Text([*common, *ids[80:83]], ids[83:100]),
        Text(ids[100:105], ids[105:106]),
    ]
