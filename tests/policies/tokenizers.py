"""Small tokenizers of the kinds that chat models have, each with the chat template of its kind."""

import json
from collections.abc import Callable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from oel_core.models.loading import load_tokenizer

CORPUS = [
    "the player reads the board and steps to the goal in the corner",
    "never step on a hole \n\n  user: system",
] * 9
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = (
    "{%- for message in messages %}{%- set content = message.content %}"
    "{%- if message.role == 'assistant' and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set talk = messages[1:] %}{% set system = messages[0].content %}"
    "{% else %}{% set talk = messages %}{% set system = false %}{% endif %}{% for message in talk %}"
    "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message.content if loop.first and system "
    "else message.content %}{% if message.role == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{ '<start_of_turn>' + role + '\n' + message.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + "
    "message.content | trim + '<|eot_id|>' %}{% if loop.first %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set talk = messages[1:] %}"
    "{% else %}{% set talk = messages %}{% endif %}{{ bos_token }}{% for message in talk %}"
    "{% if message.role == 'user' %}{% if loop.last and system is defined %}"
    "{{ '[INST] ' + system + '\n\n' + message.content + '[/INST]' }}"
    "{% else %}{{ '[INST] ' + message.content + '[/INST]' }}{% endif %}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
)


def byte_level(
    special: Sequence[str], template: str, *, more: Sequence[AddedToken] = (), **named: str
) -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2, Qwen and Llama 3 have it."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([*CORPUS, "\n\n\n  <|im_end|> [INST] <think> </s>"], trainer)
    bpe.add_tokens(list(more))
    return _fast(bpe, template, **named)


def pieces(
    special: Sequence[str], template: str, *, unigram: bool, more: Sequence[AddedToken] = (), **named: str
) -> PreTrainedTokenizerFast:
    """What is converted from SentencePiece: spaces as `▁`, one before the text, unknown characters by their bytes."""
    found = Tokenizer(models.Unigram() if unigram else models.BPE(unk_token="<unk>"))
    common = {"special_tokens": list(special), "vocab_size": 160, "show_progress": False}
    if unigram:
        found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        found.train_from_iterator(CORPUS, trainers.UnigramTrainer(unk_token="<unk>", **common))
    else:
        found.train_from_iterator([text.replace(" ", "▁") for text in CORPUS], trainers.BpeTrainer(**common))
        found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    found = _with_bytes(found)
    found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    found.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    found.add_tokens(list(more))
    return _fast(found, template, **named)


def _with_bytes(trained: Tokenizer) -> Tokenizer:
    values = json.loads(trained.to_str())
    vocabulary = values["model"]["vocab"]
    for byte in range(256):
        if isinstance(vocabulary, dict):
            vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
        else:
            vocabulary.append([f"<0x{byte:02X}>", -20.0])
    values["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(values))


def _fast(backend: Tokenizer, template: str, **named: str) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    tokenizer.chat_template = template
    return tokenizer


def _slow() -> PreTrainedTokenizerBase:
    tokenizer = ByT5Tokenizer(extra_ids=0, additional_special_tokens=["<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = CHATML
    return tokenizer


_TAGS = [AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>", "<tool_call>")]
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SP = ("<unk>", "<s>", "</s>")
KINDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "seed": lambda: load_tokenizer("seed-lm"),
    "chatml": lambda: byte_level(_CHATML, CHATML, more=_TAGS, eos_token="<|im_end|>"),
    "qwen": lambda: byte_level(_CHATML, QWEN, more=_TAGS, eos_token="<|im_end|>"),
    "llama2": lambda: pieces(_SP, LLAMA2, unigram=False, bos_token="<s>", eos_token="</s>", unk_token="<unk>"),
    "llama2-unigram": lambda: pieces(_SP, LLAMA2, unigram=True, bos_token="<s>", eos_token="</s>", unk_token="<unk>"),
    "gemma": lambda: pieces(
        ("<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        GEMMA,
        unigram=False,
        more=[AddedToken("<table>", special=False, normalized=False), AddedToken("\n\n", special=False)],
        bos_token="<bos>",
        eos_token="<eos>",
    ),
    "llama3": lambda: byte_level(
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        LLAMA3,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    ),
    "mistral": lambda: pieces(
        (*_SP, "[INST]", "[/INST]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]"),
        MISTRAL,
        unigram=False,
        bos_token="<s>",
        eos_token="</s>",
    ),
    "bytes": _slow,
}
