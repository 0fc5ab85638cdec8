"""`oel probe`: checks that a preset's model responds, and lists its backend's capabilities."""

import time
from typing import Annotated

import typer

from flows.cli.shared import AsJson, Overrides, PresetName, print_json, print_table


def probe(
    preset: PresetName,
    prompt: Annotated[str, typer.Option(help="Prompt to send.")] = "Say one word.",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Load a preset's model as a run would, generate one response, and list its backend's capabilities."""
    from oel_core.config.run import load_config
    from oel_core.models.threads import use_threads
    from oel_core.policies import load_policy, release
    from oel_core.policies.base import Request
    from oel_core.types import Message

    config = load_config(preset, overrides or ())
    use_threads(config.model)
    started = time.perf_counter()
    policy = load_policy(config.model.path, config.model)
    loaded = time.perf_counter()
    try:
        sampling = config.play.sampling
        (answer,) = policy.generate([Request((Message(role="user", content=prompt),), config.seed)], sampling)
        abilities = getattr(policy, "abilities", None)
        values = {
            "backend": config.model.backend,
            "policy": policy.name,
            "server": abilities.describe() if abilities else "none: this process and those that it starts",
            "in flight": str(policy.batch_size),
            "token ids": answer.id_source.value,
            "seconds to load": f"{loaded - started:.1f}",
            "seconds to answer": f"{time.perf_counter() - loaded:.1f}",
            "tokens": f"{len(answer.prompt_ids)} read, {len(answer.response_ids)} written; end: {answer.stop_reason}",
            "answer": answer.text,
        }
    finally:
        release()
    if as_json:
        print_json([values])
    else:
        print_table("", ("what", "found"), list(values.items()))
