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


class PromptTooLongError(PolicyError):
    """Some requests of a batch do not fit into the model's length; the others could be answered without them.

    `problems` maps the position of each such request in the batch to what is wrong with it.
    """

    def __init__(self, problems: dict[int, str]) -> None:
        self.problems = problems
        first = next(iter(problems.values()))
        more = f" (and {len(problems) - 1} more requests of this batch)" if len(problems) > 1 else ""
        super().__init__(first + more)


class ExtractionError(OelError, RuntimeError):
    """No usable knowledge came out of a stage that needs some."""


class UndecidedError(ExtractionError):
    """A round waits for a person to decide about its knowledge; nothing is wrong with it."""


class ArtifactError(OelError, ValueError):
    """A file of a run is missing, torn, foreign or does not match what produced it. Exit code 2; never retried."""


class DistillationError(OelError, RuntimeError):
    """Consolidation cannot start or cannot go on (wrong inputs, NaN loss)."""


class UnstableError(DistillationError):
    """The student has left the bounds of `distill.stability`."""


class BusyError(ArtifactError):
    """Somebody else works on the same run. Exit code 2; try again when they are done."""


class ServiceError(OelError, RuntimeError):
    """A server could not be started, reached or ended."""
