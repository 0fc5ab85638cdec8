"""Contracts that plug-ins can be checked against, with or without pytest: each raises AssertionError that says what
is wrong."""

from oel_core.testing.environments import check_environment
from oel_core.testing.formats import check_format
from oel_core.testing.policies import check_policy

__all__ = ["check_environment", "check_format", "check_policy"]
