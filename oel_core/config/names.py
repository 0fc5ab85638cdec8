"""Types of configuration fields that name a component: validated against the installed names without importing them."""

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from oel_core.plugins.builtin import ENVIRONMENTS, FORMATS, OBJECTIVES, POLICIES, SCORERS
from oel_core.plugins.registry import LOCATION, Registry


def _schema(registry: Registry) -> WithJsonSchema:
    """The installed names as suggestions for editors and forms, or any `module:attribute`."""
    location = {"type": "string", "pattern": f"^{LOCATION.pattern}$"}
    return WithJsonSchema({"anyOf": [{"type": "string", "enum": registry.names()}, location]})


EnvironmentName = Annotated[str, _schema(ENVIRONMENTS)]
"""Checked when it is used: the records of a run can be read where its environment is not installed."""
BackendName = Annotated[str, AfterValidator(POLICIES.check), _schema(POLICIES)]
FormatName = Annotated[str, AfterValidator(FORMATS.check), _schema(FORMATS)]
ScorerName = Annotated[str, AfterValidator(SCORERS.check), _schema(SCORERS)]
ObjectiveName = Annotated[str, AfterValidator(OBJECTIVES.check), _schema(OBJECTIVES)]
