"""Fast validation of a configuration against this installation, before a run starts."""

from oel_core.bundles.received import bundle_of
from oel_core.cases.suite import scorer_of
from oel_core.config.run import ModelConfig, OelConfig
from oel_core.config.student_rollouts import rollout_model
from oel_core.distillation.data.replay import read_replay
from oel_core.envs import answer_shape, check_spec, playable
from oel_core.envs.base import env_spec
from oel_core.errors import ConfigError
from oel_core.evaluation import check_suites
from oel_core.evaluation.validation import require_validation
from oel_core.models.architectures import KNOWN, meta_model
from oel_core.models.checkpoints import resolve_model
from oel_core.policies import check_backend, check_runner
from oel_core.prompts.extraction import get_format


def check(config: OelConfig) -> None:
    """Raises errors that a stage would raise later.

    Raises:
        ConfigError: the environment, a suite or an option of one does not exist, the gate tolerates losses on a suite
            that is not measured, or knowledge is to be scored on validation episodes and the environment has none.
        ConfigError, ArtifactError: as `bundle_of`, where there is a bundle; its environment is not looked at then.
        ArtifactError, PolicyError: the starting model is a folder that is no checkpoint, or has no weights.
        PolicyError, ConfigError: as `check_engines` and `check_constraint`.
        ConfigError: as `check_adapter`.
        ArtifactError, DistillationError: as `check_replay`.
    """
    check_experience(config)
    get_format(config.extract.format)
    check_constraint(config)
    check_suites(config)
    _require_known_tolerances(config)
    resolve_model(config.model.path)
    check_adapter(config.model)
    check_engines(config)
    check_replay(config)


def check_experience(config: OelConfig) -> None:
    """Validates where experience comes from: the environment, or a bundle in its place. Raises as `check`."""
    if config.experience.bundle is not None:
        bundle_of(config)
        return
    check_spec(env_spec(config))
    check_measuring(config)
    check_changes(config)


def check_changes(config: OelConfig) -> None:
    """Validates the environment, and the suites in it, after each of its changes.

    Raises:
        ConfigError: an option of a change is wrong; the message names the change.
    """
    for place, change in enumerate(config.environment.changes):
        changed = config.at_round(change.round)
        try:
            check_spec(env_spec(changed))
            check_measuring(changed)
            check_suites(changed)
        except ConfigError as error:
            raise ConfigError(f"environment.changes.{place}, from round {change.round} on: {error}") from error


def check_measuring(config: OelConfig) -> None:
    """Validates that the configured evaluations can be run.

    Raises:
        ConfigError: the environment cannot be played but is to be, the cases have no inbox to come from, the scorer or
            an option of it is wrong, or knowledge is to be scored and there is nothing to score it on.
    """
    on_cases = config.evaluate.held_out == "cases"
    if not on_cases and not playable(config.environment.name):
        raise ConfigError(
            f"environment '{config.environment.name}' cannot be played: set evaluate.held_out to cases, which measures "
            "on recorded sessions"
        )
    if not on_cases:
        require_validation(config)
        return
    if config.experience.inbox is None:
        raise ConfigError("evaluate.held_out is cases: set experience.inbox, from whose sessions the cases come")
    scorer_of(config.evaluate.cases)
    scored = config.knowledge.selection.use != "all" or config.knowledge.saturation.every is not None
    if scored and (config.evaluate.cases.scorer is None or not config.evaluate.cases.validation):
        raise ConfigError(
            "knowledge.selection and knowledge.saturation score knowledge on validation cases: set "
            "evaluate.cases.scorer and evaluate.cases.validation, or knowledge.selection.use=all and "
            "knowledge.saturation.every=null"
        )


def check_adapter(model: ModelConfig) -> None:
    """Validates the LoRA configuration against the model, without weights.

    A hub id without a local configuration or a known architecture is checked later, by `models.add_lora`.

    Raises:
        ConfigError: the model lacks a named module, or shares that module's weights with another one.
        ArtifactError, PolicyError: as `resolve_model`.
    """
    if model.lora is None or model.lora.target_modules == "all-linear":
        return  # the linear layers of the blocks: never an embedding
    from oel_core.models.adapters import add_lora  # torch takes a second to import
    from oel_core.models.loading import local_meta_model

    bare = local_meta_model(model.path)
    if bare is None and model.path in KNOWN:
        bare = meta_model(KNOWN[model.path])
    if bare is not None:
        add_lora(bare, model.lora)


def check_engines(config: OelConfig) -> None:
    """Validates the inference backends of play and distillation, and the number of GPUs.

    Raises:
        PolicyError, ConfigError: as `policies.check_runner`, `policies.check_backend` and `rollout_model`.
        ConfigError: `distill.processes` exceeds the number of GPUs.
    """
    check_runner(config.runner)
    check_backend(config.model)
    check_backend(rollout_model(config.model, config.distill))
    if config.distill.processes > 1:
        from oel_core.distillation.distributed.launch import require_devices  # torch takes a second to import

        require_devices(config.model, config.distill)


def check_constraint(config: OelConfig) -> None:
    """Validates constrained extraction. With vLLM or a server, its own library reads the expression.

    Raises:
        ConfigError: the format has no shape, or the item's shape is none that can constrain.
        PolicyError: llguidance is not installed.
    """
    shape = answer_shape(config)
    if shape is not None and config.model.backend == "transformers":
        from oel_core.policies.hf.constraint import check_shape  # torch takes a second to import

        check_shape(shape)


def check_replay(config: OelConfig) -> None:
    """Validates the replay file. Raises as `read_replay`."""
    if config.distill.retention.replay is not None:
        read_replay(config.distill.retention.replay)


def _require_known_tolerances(config: OelConfig) -> None:
    """Rejects misspelt suite names, which would otherwise silently use the default tolerance."""
    unknown = sorted(set(config.gate.ood_tolerances) - set(config.evaluate.ood))
    if unknown:
        known = ", ".join(sorted(config.evaluate.ood)) or "none"
        raise ConfigError(f"gate.ood_tolerances: {unknown[0]} is no suite of evaluate.ood: there are {known}")
