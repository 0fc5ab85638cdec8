"""The output files of a study: `study.json`, `study.md` and `plots/`, and its plan."""

from pathlib import Path

from oel_core.config.yaml_text import dump_yaml
from oel_core.errors import ConfigError
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import CONFIG
from oel_core.study.plan import StudyPlan
from oel_core.study.plots import FOLDER, draw_all
from oel_core.study.results import StudyResult
from oel_core.study.tables import markdown

PLAN, JSON, PAGE = "study.yaml", "study.json", "study.md"


def write_plan(folder: Path, plan: StudyPlan) -> None:
    """Writes the plan to the study's folder."""
    write_atomic(folder / PLAN, dump_yaml(plan.model_dump(mode="json")).encode())


def write_results(folder: Path, result: StudyResult) -> list[Path]:
    """Writes all output files and returns their paths, `study.md` first."""
    write_atomic(folder / JSON, (result.model_dump_json(indent=1) + "\n").encode())
    write_atomic(folder / PAGE, markdown(result).encode())
    return [folder / PAGE, folder / JSON, *draw_all(result, folder / FOLDER)]


def require_study(folder: Path) -> None:
    """Raises ConfigError where a folder of that name holds a run."""
    if (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} is a run, not a study: choose another --name")


def require_run(folder: Path) -> None:
    """Raises ConfigError where a folder of that name holds a study."""
    if (folder / PLAN).is_file():
        raise ConfigError(f"{folder} is a study, not a run: choose another --name, or resume it with `oel study`")
