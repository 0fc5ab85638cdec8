"""Data that several suites' tests read."""

from pathlib import Path

import pytest

from tests.evaluation.ifeval_data import write_prompts


@pytest.fixture
def prompts_file(tmp_path: Path) -> Path:
    """Twelve prompts in IF-Eval's format."""
    return write_prompts(tmp_path)
