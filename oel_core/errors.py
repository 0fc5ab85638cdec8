"""The error model: one type for each boundary a run can fail at.

Every type also inherits the standard exception it specialises, so library users may catch either.
"""


class OelError(Exception):
    """Base of every error this project raises on purpose. Its message says what is wrong and what to do."""


class ConfigError(OelError, ValueError):
    """A preset, an override or an argument cannot be used. Exit code 2; never retried."""


class EnvironmentError_(OelError, RuntimeError):
    """An environment could not be made, stepped, or kept its rules hidden."""


class PolicyError(OelError, RuntimeError):
    """A model could not be loaded or could not generate."""


class ExtractionError(OelError, RuntimeError):
    """No usable knowledge came out of a stage that needs some."""


class ArtifactError(OelError, ValueError):
    """A file of a run is missing, torn, foreign or does not match what produced it. Exit code 2; never retried."""


class DistillationError(OelError, RuntimeError):
    """Consolidation cannot start or cannot go on (wrong inputs, NaN loss)."""
