"""All built-in components that a configuration can name, by kind. A new one is one line here."""

from collections.abc import Mapping
from typing import Any, Final

from oel_core.plugins.registry import Registry

ENVIRONMENTS: Final = Registry(
    "environment",
    "oel.envs",
    {
        "lake": "oel_core.envs.lake:LakeEnv",
        "frozen_lake": "oel_core.envs.textarena:FrozenLake",
        "sokoban": "oel_core.envs.textarena:Sokoban",
        "gymnasium": "oel_core.envs.gymnasium:GymnasiumEnv",
        "verifiers": "oel_core.envs.verifiers.env:VerifiersEnv",
        "textworld_coin": "oel_core.envs.textworld.games:CoinCollector",
        "textworld_treasure": "oel_core.envs.textworld.games:TreasureHunter",
        "textworld_cooking": "oel_core.envs.textworld.games:Cooking",
        "textworld_custom": "oel_core.envs.textworld.games:CustomGame",
        "textworld_relics": "oel_core.envs.textworld.relics_game:Relics",
        "tools": "oel_core.envs.tools.env:ToolEnv",
        "recorded": "oel_core.envs.recorded:Recorded",
    },
)
"""Classes called with `(EnvSpec, seed)`; see `oel_core.envs.base.Environment`."""

POLICIES: Final = Registry(
    "policy backend",
    "oel.policies",
    {
        "transformers": "oel_core.policies.hf.policy:TransformersPolicy.load",
        "vllm": "oel_core.policies.vllm.policy:VllmPolicy.load",
        "openai": "oel_core.policies.openai.policy:OpenAIPolicy.load",
    },
)
"""Functions `(path, ModelConfig)` to a policy; see `oel_core.policies.base.Policy`."""

FORMATS: Final = Registry(
    "extraction format",
    "oel.formats",
    {
        "itemised": "oel_core.prompts.extraction.itemised:FORMAT",
        "free_text": "oel_core.prompts.extraction.free_text:FORMAT",
    },
)
"""`oel_core.prompts.extraction.base.ExtractionFormat`."""

SUITES: Final = Registry(
    "evaluation suite",
    "oel.suites",
    {
        "games": "oel_core.evaluation.games:make_games",
        "other_symbols": "oel_core.evaluation.lake:make_other_symbols",
        "swapped_roles": "oel_core.evaluation.lake:make_swapped_roles",
        "other_relics": "oel_core.evaluation.relics:make_other_relics",
        "ifeval": "oel_core.evaluation.ifeval:make_ifeval",
        "python_code": "oel_core.evaluation.code.suite:make_python_code",
        "tools": "oel_core.evaluation.tools:make_tools",
        "other_tool": "oel_core.evaluation.tools:make_other_tool",
        "cross_game": "oel_core.evaluation.cross_game:make_plain_cross_game",
        "cases": "oel_core.cases.suite:make_cases",
    },
)
"""Functions `(options, OelConfig)` to an `oel_core.evaluation.base.Suite`."""

SCORERS: Final = Registry(
    "scorer",
    "oel.scorers",
    {
        "exact": "oel_core.cases.scorers.texts:make_exact",
        "normalised": "oel_core.cases.scorers.texts:make_normalised",
        "contains": "oel_core.cases.scorers.texts:make_contains",
        "regex": "oel_core.cases.scorers.texts:make_regex",
        "json_equal": "oel_core.cases.scorers.structured:make_json_equal",
        "tool_call_equal": "oel_core.cases.scorers.structured:make_tool_call_equal",
        "python": "oel_core.cases.scorers.python:make_python",
        "mlflow": "oel_core.cases.scorers.mlflow:make_mlflow",
        "judge": "oel_core.cases.scorers.judge:make_judge",
    },
)
"""Functions `(options)` to an `oel_core.cases.scorers.base.Scorer`."""

OBJECTIVES: Final = Registry(
    "objective",
    "oel.objectives",
    {
        "reverse_kl_top_k": "oel_core.distillation.objectives.losses:REVERSE_KL_TOP_K",
        "reverse_kl_renormalised": "oel_core.distillation.objectives.losses:REVERSE_KL_RENORMALISED",
        "reverse_kl_tail": "oel_core.distillation.objectives.losses:REVERSE_KL_TAIL",
        "reverse_kl": "oel_core.distillation.objectives.losses:REVERSE_KL",
        "sampled_token": "oel_core.distillation.objectives.losses:SAMPLED_TOKEN",
        "forward_kl": "oel_core.distillation.objectives.losses:FORWARD_KL",
        "generalised_jsd": "oel_core.distillation.objectives.losses:GENERALISED_JSD",
    },
)
"""`oel_core.distillation.objectives.losses.Loss`: the tokens it is computed over, and its value at each."""

LOG_FORMATS: Final = Registry(
    "log format",
    "oel.log_formats",
    {
        "openai-chat": "oel_core.imports.formats.openai.chat:read",
        "openai-finetuning": "oel_core.imports.formats.openai.finetuning:read",
        "sharegpt": "oel_core.imports.formats.sharegpt:read",
        "mlflow-traces": "oel_core.imports.formats.mlflow_traces:read",
        "otel-genai": "oel_core.imports.formats.spans.genai:read",
        "openinference": "oel_core.imports.formats.spans.openinference:read",
        "langfuse": "oel_core.imports.formats.langfuse:read",
        "langsmith": "oel_core.imports.formats.langsmith:read",
        "claude-code": "oel_core.imports.formats.claude_code:FORMAT",
        "tau-bench": "oel_core.imports.formats.tau_bench:read",
        "verifiers": "oel_core.imports.formats.verifiers:read",
        "inspect": "oel_core.imports.formats.inspect:read",
    },
)
"""`oel_core.imports.records.LogFormat`: converts a log entry to the model calls and the feedback in it."""

_FIELDS: Final = {
    "environment.name": ENVIRONMENTS,
    "model.backend": POLICIES,
    "extract.format": FORMATS,
    "distill.objective": OBJECTIVES,
    "evaluate.cases.scorer": SCORERS,
}
_SUITES_AT: Final = ("evaluate", "ood")


def foreign_components(settings: Mapping[str, Any]) -> dict[str, str]:
    """Field → identity of every component among these settings that is not built in.

    Args:
        settings: dotted path of a field → its value.
    """
    named = {path: (registry, settings[path]) for path, registry in _FIELDS.items() if path in settings}
    for path, value in settings.items():
        parts = path.split(".")
        if tuple(parts[:2]) == _SUITES_AT and len(parts) > 2:
            if parts[3:] == ["suite"]:
                named[path] = (SUITES, value)
            elif parts[2] in SUITES.names():
                named[".".join(parts[:3])] = (SUITES, parts[2])
    chosen = {path: component for path, component in named.items() if component[1] is not None}
    found = {path: registry.identity(str(name)) for path, (registry, name) in chosen.items()}
    return {path: identity for path, identity in found.items() if identity is not None}
