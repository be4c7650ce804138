"""What every group of params.yaml shares: exact keys, exact types, and names of values."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Group(BaseModel):
    """A mapping of params.yaml: exact keys, exact types (whole numbers may stand where a float is asked)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
