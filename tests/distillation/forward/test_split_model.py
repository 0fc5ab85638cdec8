"""Models without a separate decoder and output projection are rejected."""

import pytest
from torch import nn

from oel_core.distillation.forward.split_model import SplitModel
from oel_core.errors import DistillationError
from tests.fakes import tiny_model


class Odd(nn.Module):
    """A model that says of its parts what it is told."""

    def __init__(self, head, decoder):
        super().__init__()
        self._parts = [head, decoder or self]

    def get_output_embeddings(self):
        return self._parts[0]

    def get_decoder(self):
        return None if self._parts[1] == "none" else self._parts[1]


@pytest.mark.parametrize(
    ("head", "decoder"), [(None, nn.Linear(1, 1)), (nn.Linear(1, 1), "none"), (nn.Linear(1, 1), None)]
)
def test_a_model_without_a_decoder_or_a_head_of_its_own_is_refused(head, decoder):
    with pytest.raises(DistillationError, match="Odd has no decoder with an output projection"):
        SplitModel(Odd(head, decoder))


def test_the_parts_are_the_models_own():
    model = tiny_model()
    split = SplitModel(model)
    assert (split.head, split.decoder, split.vocabulary) == (model.lm_head, model.model, 259)
