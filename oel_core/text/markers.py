"""Control tokens of chat templates, recognised by their form: `<|...|>`, `<start_of_turn>`, `</s>`, `[INST]`."""

import html
import re

_BAR = "|\uff5c"
"""Also DeepSeek's full-width one."""
_NAMES = (
    r"s|n|bos|eos|eot|eom|eod|unk|pad|mask|cls|sep|sop|eop|suf|mid|think|thinking|thought|reasoning|reflection|answer"
    r"|tools?|system|assistant|user|human|model|developer|context|functions?|instructions?|image|audio|video"
    r"|unused[0-9]{1,5}|0x[0-9a-f]{2}|[a-z]{1,20}(?:[_:][a-z0-9]{1,20}){1,6}"
)
_BRACKETED = (
    r"inst|sys|think|img|img_end|img_break|gmask|smask|bos|eos|args|call_id|prefix|suffix|middle"
    r"|system_prompt|user_prompt|available_tools|tool_(?:calls?|results?|content)|model_settings"
)
_FORMS = (
    rf"<[{_BAR}][^\s<>{_BAR}][^<>{_BAR}]{{0,40}}[{_BAR}]?>",
    rf"<[{_BAR}][a-z_▁]{{2}}",
    rf"<[^\s<>{_BAR}]{{1,40}}[{_BAR}]>",
    rf"[a-z_▁][{_BAR}]>",
    rf"</?(?:{_NAMES})>",
    r"<function=",
    r"<</?sys>>",
    rf"\[/?(?:{_BRACKETED})\]",
    rf"\[[{_BAR}][^\[\]{_BAR}]{{1,40}}[{_BAR}]\]",
)
_MARKER = re.compile("|".join(_FORMS), re.IGNORECASE)
_SPACED = re.compile(r"< ?[|] ?[a-z_ ]{2,40}[|] ?>|< ?/? ?(?:s|think|tool_call|im_start|im_end) ?>|\[ ?/? ?inst ?\]")
_ANGLES = str.maketrans(
    dict.fromkeys("\u2039\u27e8\u2329\u3008\u276e\u2770\u27ea\xab", "<")
    | dict.fromkeys("\u203a\u27e9\u232a\u3009\u276f\u2771\u27eb\xbb", ">")
)
"""Quotation marks and brackets that look like them."""


def has_marker(folded: str) -> bool:
    """Whether a folded text (`hygiene.text.folded`) contains a control token of a chat template, also an obfuscated
    one."""
    plain = html.unescape(folded).translate(_ANGLES)
    return bool(_MARKER.search(plain) or _SPACED.search(plain))


def defused(text: str) -> str:
    """The text with a space after the first character of each control token, so that no tokenizer recognises it."""
    return _MARKER.sub(lambda found: f"{found.group()[0]} {found.group()[1:]}", text)
