"""The text of a new preset: the settings that are changed first, each with its description."""

from typing import Any

import yaml
from pydantic import BaseModel

from oel_core.config.run import load_config

FIRST = {
    "": ("description", "rounds"),
    "model": ("path", "backend", "max_length"),
    "environment": ("name", "options", "max_turns", "split_by_layout"),
    "play": ("history_turns", "sampling"),
    "collect": ("replicas", "extraction_episodes"),
    "extract": ("format", "with_previous", "use_after", "turns_shown", "sampling"),
    "knowledge": ("max_tokens", "carry_over"),
    "distill": ("steps", "episodes_per_step", "learning_rate", "temperature", "max_response_tokens"),
}
"""Section → its fields; "" are those of no section."""
HEAD = """\
# yaml-language-server: $schema=oel.schema.json
# Every other setting has its default: `oel config show {name}.yaml` prints all of them.
"""


def preset_skeleton(name: str, like: str = "quickstart") -> str:
    """A preset with the values of the one called `like`. Raises ConfigError for an unknown one."""
    config = load_config(like)
    lines = [HEAD.format(name=name).rstrip("\n")]
    for section, fields in FIRST.items():
        model: BaseModel = getattr(config, section) if section else config
        summary = (type(model).__doc__ or "").strip().split("\n", 1)[0]
        lines += ["", f"# {summary}", f"{section}:"] if section else []
        for field in fields:
            value = name if field == "description" else model.model_dump(mode="json", exclude_defaults=True).get(field)
            lines += _setting(model, field, value, "  " if section else "")
    return "\n".join(lines) + "\n"


def _setting(model: BaseModel, field: str, value: Any, indent: str) -> list[str]:
    """A field's description as a comment, then the field, commented out if it has its default."""
    about = type(model).model_fields[field].description
    default = getattr(model, field) if value is None else value
    plain = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("\n...\n").strip()
    comment = [f"{indent}# {' '.join(about.split())}"] if about else []
    return [*comment, f"{indent}{'# ' if value is None else ''}{field}: {text}"]
