"""What every section of the configuration is built from. The sections themselves are in `oel_core.config`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """Base of every section: frozen, unknown fields refused, no silent conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid")
