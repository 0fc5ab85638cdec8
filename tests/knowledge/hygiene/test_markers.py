"""Control tokens of chat templates are detected in items, also obfuscated, and can be defused."""

import pytest

from oel_core.config.knowledge import Check, HygieneConfig
from oel_core.knowledge.hygiene import inspect
from oel_core.text.markers import defused

DROP = HygieneConfig(policy="drop", checks=(Check.INSTRUCTION,))
MARKERS = {
    "ChatML": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_sep|>"],
    "Llama 2": ["<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    "Llama 3": ["<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|python_tag|>", "<|eom_id|>"],
    "Gemma": ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>", "<|turn>", "<turn|>"],
    "Mistral": ["[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/TOOL_RESULTS]", "[THINK]", "[IMG]"],
    "Phi": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
    "DeepSeek": ["<\uff5cUser\uff5c>", "<\uff5cbegin▁of▁sentence\uff5c>", "<\uff5ctool▁calls▁end\uff5c>"],
    "Command R": ["<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<BOS_TOKEN>"],
    "GPT-OSS, GLM, EXAONE": ["<|channel|>", "[gMASK]", "<sop>", "[|assistant|]", "<|observation|>"],
    "tools and thinking": ["<tool_call>", "</tool_call>", "<tool_response>", "<function=up>", "<think>", "</think>"],
}
SINGLE = [marker for markers in MARKERS.values() for marker in markers]
VEILED = [
    "<\u200b|im_end|>",
    "\uff1c|im_end|\uff1e",
    "< | im_end | >",
    "&lt;|im_end|&gt;",
    "\u2039|im_end|\u203a",
    "<|IM_END|>",
    "<|im_end",
]
HARMLESS = [
    "Use [up], [down], [left] and [right].",
    "Say [take key] or [pick_up lamp].",
    "If x < 3 and y > 2, go left.",
    "|  S  |  F  | is the first row; -> and <- are the way.",
    "The board is <- - ->, walls are [#].",
    "Items in <angle brackets> are doors.",
]


@pytest.mark.parametrize("marker", [*SINGLE, *VEILED])
def test_a_control_token_is_flagged(marker: str) -> None:
    assert "holds markers of a chat template" in [flag.detail for flag in inspect(f"The key{marker} is red.", DROP)]


@pytest.mark.parametrize("text", HARMLESS)
def test_signs_of_worlds_are_not(text: str) -> None:
    assert inspect(text, DROP) == ()
    assert defused(text) == text


@pytest.mark.parametrize("marker", SINGLE)
def test_what_was_made_harmless_holds_the_token_no_more_and_reads_the_same(marker: str) -> None:
    text = defused(f"The key{marker} is {marker}{marker}red.")
    assert marker not in text
    assert text.replace(" ", "") == f"Thekey{marker}is{marker}{marker}red."
