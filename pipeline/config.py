"""The frozen base of all settings that humans write."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """One section of a recipe: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
