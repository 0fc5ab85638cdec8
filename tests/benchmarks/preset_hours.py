"""Hours and memory of the presets with known models, computed from assumed rates: a plan, not a measurement.

python -m tests.benchmarks.preset_hours
"""

from oel_core.config.run import OelConfig, load_config, preset_names
from oel_core.models.architectures import KNOWN, known_architecture
from oel_core.preflight.estimate import StageNeed, estimate

FILL = 0.5
"""Share of the most tokens that a run really has: episodes end early, responses end before their cap."""
SLOW, FAST = 1_000, 8_000
"""Generated tokens a second: batches of 16 to 32 in transformers; continuous batching in vLLM (one 80 GB GPU)."""
TRAINING_FLOPS = 2.5e14
"""A second, of a bfloat16 GPU with about 10^15 at its best."""


def main() -> None:
    print("| preset | peak GB | generated tokens | hours at 1,000/s | at 8,000/s | training hours |")
    print("|---|---|---|---|---|---|")
    for name in preset_names():
        config = load_config(name)
        if config.model.path in KNOWN and config.model.device == "cuda":
            print(_row(name, config))


def _row(name: str, config: OelConfig) -> str:
    architecture = known_architecture(config.model.path)
    assert architecture is not None
    stages = estimate(config, architecture)
    generated = FILL * sum(stage.rounds * stage.response_tokens for stage in stages)
    peak = max(stage.memory or 0 for stage in stages) / 1e9
    training = _training_flops(config, architecture.parameters, stages) / TRAINING_FLOPS / 3600
    return (
        f"| {name} | {peak:.0f} | {generated / 1e6:.0f}M | {generated / SLOW / 3600:.1f} | "
        f"{generated / FAST / 3600:.1f} | {training:.1f} |"
    )


def _training_flops(config: OelConfig, parameters: int, stages: list[StageNeed]) -> float:
    """Forward and backward of the student, forward of the teacher with the knowledge: 6 and 2 a parameter and token."""
    distill = next(stage for stage in stages if stage.stage == "distill")
    student = FILL * (distill.prompt_tokens + distill.response_tokens)
    teacher = student + FILL * distill.calls * config.knowledge.max_tokens
    return distill.rounds * parameters * (6 * student + 2 * teacher)


if __name__ == "__main__":
    main()
