"""The settings in `mlflow.yaml`. Read without importing MLflow."""

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from oel_core.config.fields import validate
from oel_core.config.run import CountOrZero, Section
from oel_core.config.yaml_text import read_yaml
from oel_core.errors import ConfigError

FILE = "mlflow.yaml"


class ArtifactPolicy(Section):
    """Which files are copied into the artifact store."""

    checkpoints: Literal["adapters", "all", "none"] = "adapters"
    """`adapters` copies low-rank adapters and refers to full weights by URI and digest; `none` never copies weights."""
    transcripts: CountOrZero = 4
    """Sample episodes logged as text per round: this many won and this many lost."""


class TrackingSettings(Section):
    """Where and what is tracked. `{root}` is replaced by the run root, `{run}` by the run's name."""

    tracking_uri: str = "sqlite:///{root}/mlflow.db"
    registry_uri: str | None = None
    """null: the tracking server's own registry."""
    artifact_location: str | None = "{root}/mlartifacts"
    """Of a new experiment; null for the server's default."""
    experiment: str = Field(default="oel", min_length=1)
    registered_model: str | None = "oel-{run}"
    """Each round's checkpoint becomes a version of this model, the newest with the alias `candidate`; null: off."""
    artifacts: ArtifactPolicy = ArtifactPolicy()

    def resolved(self, root: Path, run: str) -> "TrackingSettings":
        """The settings with `{root}` and `{run}` replaced."""
        given = {"{root}": str(root.resolve()), "{run}": run}
        fields = ("tracking_uri", "registry_uri", "artifact_location", "experiment", "registered_model")
        values = {field: getattr(self, field) for field in fields}
        return self.model_copy(
            update={
                field: re.sub(r"\{root\}|\{run\}", lambda found: given[found[0]], text)
                for field, text in values.items()
                if text is not None
            }
        )


def load_settings(path: Path | None = None) -> TrackingSettings:
    """Settings from `path`, else `$OEL_MLFLOW`, else `mlflow.yaml` here or beside the package, else defaults.

    `$OEL_TRACKING_URI` takes precedence over all files: the services of `oel up` set it if their database is not in the
    run root.

    Raises:
        ConfigError: the file is missing, not YAML, or has invalid fields.
    """
    settings = _from_file(path)
    uri = os.environ.get("OEL_TRACKING_URI")
    return settings.model_copy(update={"tracking_uri": uri}) if uri else settings


def _from_file(path: Path | None) -> TrackingSettings:
    named = path or (Path(os.environ["OEL_MLFLOW"]) if os.environ.get("OEL_MLFLOW") else None)
    places = [named] if named else [Path(FILE), Path(__file__).parents[2] / FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        if named:
            raise ConfigError(f"{named} is not a file: name a {FILE}")
        return TrackingSettings()
    read = read_yaml(found)
    return validate(TrackingSettings, read.mapping(), str(found), read.where)
