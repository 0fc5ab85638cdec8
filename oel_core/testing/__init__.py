"""Contract checks for plug-ins, usable with or without pytest. Each raises AssertionError with the problem."""

from oel_core.testing.environments import check_environment
from oel_core.testing.formats import check_format
from oel_core.testing.policies import check_policy
from oel_core.testing.suites import check_suite

__all__ = ["check_environment", "check_format", "check_policy", "check_suite"]
