"""The error model: one type for each boundary at which a run can fail.

Every type also inherits the standard exception it specialises, so library users may catch either.
"""

from typing import Any


class OelError(Exception):
    """Base of all errors of this project. The message says what is wrong and what to do."""


class ConfigError(OelError, ValueError):
    """A preset, an override or an argument cannot be used. Exit code 2; never retried."""


class EnvironmentError_(OelError, RuntimeError):
    """An environment could not be created or stepped, or could not hide its rules."""


class PolicyError(OelError, RuntimeError):
    """A model could not be loaded or could not generate."""


class PromptTooLongError(PolicyError):
    """Some requests of a batch exceed the model's length; the others could be completed without them.

    `problems` maps the index of each such request in the batch to its problem.
    """

    def __init__(self, problems: dict[int, str]) -> None:
        self.problems = problems
        first = next(iter(problems.values()))
        more = f" (and {len(problems) - 1} more requests of this batch)" if len(problems) > 1 else ""
        super().__init__(first + more)

    def __reduce__(self) -> tuple[Any, ...]:
        """An exception is copied between processes by its arguments, which are not the message here."""
        return type(self), (self.problems,)


class ExtractionError(OelError, RuntimeError):
    """A stage that needs knowledge found none that it could use."""


class UndecidedError(ExtractionError):
    """A round waits for a person's decision about its knowledge; this is not a failure."""


class ArtifactError(OelError, ValueError):
    """A file of a run is missing, incomplete or invalid, or does not match its inputs. Exit code 2; never retried."""


class DistillationError(OelError, RuntimeError):
    """Distillation cannot start or continue (wrong inputs, NaN loss)."""


class UnstableError(DistillationError):
    """A metric of the student left the bounds of `distill.stability`."""


class BusyError(ArtifactError):
    """Another process works on the same run. Exit code 2; retry when it has finished."""


class ServiceError(OelError, RuntimeError):
    """A server could not be started, reached or stopped."""


class StoreError(OelError, RuntimeError):
    """An object store did not answer, or refused an operation. Finished work is kept; the same command resumes."""
