"""The seed model's tokenizer: byte-level BPE in which the fixed phrases of its environments are single tokens.

Letters of symbols are always separate tokens, so naming a symbol is copying one token; a board costs two tokens a cell.
Any other text is tokenised too, byte by byte in the worst case.
"""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from oel_core.envs import lake
from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES
from oel_core.prompts import play
from oel_core.prompts.extraction import free_text, itemised
from oel_core.prompts.extraction.base import extraction_system
from oel_core.seed_lm import frozen_lake_words as textarena
from oel_core.seed_lm.expert import NOTHING_LEARNT

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _item_pieces() -> list[str]:
    items = [form("\x00") for form in (lake.item_bad, lake.item_key, lake.item_gate, lake.item_goal)]
    return [piece for item in items for piece in item.split("\x00")]


def _board_pieces() -> list[str]:
    pieces = ["  |  "]
    for size in range(3, 7):
        line = "+" + "-----+" * size
        pieces += [f"Current Board:\n\n{line}\n|  ", f"  |\n{line}\n|  ", f"  |\n{line}\n\n{lake.ACTIONS_LINE}"]
    return pieces


def _extraction_systems() -> list[str]:
    return [extraction_system(LEARN_RULES, form) for form in (itemised.FORMAT, free_text.FORMAT)]


def phrases() -> list[str]:
    """All single-token phrases, longest first, without repeats."""
    system = play.system_text(HIDDEN_RULES, lake.GRID_INTRO)
    chat = [
        system,
        "system\n",
        "user\n",
        "assistant\n",
        f"\n\n{play.KNOWLEDGE_HEADER}\n",
        *_extraction_systems(),
    ]
    events = [
        *(f"{text}\n" for text in (lake.PICKED_UP, lake.WALL, lake.NOT_UNDERSTOOD)),
        *textarena.WALL_ANSWER,
        *(f"You moved {action} to position (" for action in lake.MOVES),
        ").\n",
    ]
    ends = [lake.FELL, lake.DRAGGED, lake.CLOSED, lake.WON, " of the journey to the goal.", " You completed "]
    study = ["Episode:\n", "Knowledge so far:\n", "(none)\n\n", "## Turn ", "\nAnswer: ", "\n## End\n", "\nFeedback: "]
    study += ["Success: ", "Failure: ", lake.ROUND_LIMIT, NOTHING_LEARNT, *textarena.WALL_ENDING]
    labels = [f"{start}{action}:" for action in lake.MOVES for start in (" ", ", ")]
    roles = ["wall", "free", " bad", " key", " goal", " ?"]
    plan = ["Bad:", "; key:", "; goal:", "; gate:", ". At ", ". Next:", ".", ", ", "P/"]
    where = [f"{start}{direction} " for direction in lake.MOVES for start in (" ", ", ")]
    actions = [f". [{action}]" for action in lake.MOVES]
    every = {
        *chat,
        *_item_pieces(),
        *_board_pieces(),
        *events,
        *ends,
        *study,
        *labels,
        *roles,
        *plan,
        *where,
        *actions,
    }
    return sorted(every, key=lambda text: (-len(text), text))


def build_tokenizer(more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """The tokenizer with chat template and end tokens.

    `more` are further single-token phrases; they come last, so that all other ids are unchanged.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + 120,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prose = [text.lower() for text in (HIDDEN_RULES, *_extraction_systems())]
    bpe.train_from_iterator(prose, trainer)
    bpe.add_tokens([AddedToken(text, normalized=False) for text in (*phrases(), *more)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
