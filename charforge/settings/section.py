"""What all sections share: they are strict, frozen, and may hold settings that do not decide the result."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")
NEUTRAL = "where, how fast and how visibly, not what"
Neutral = Annotated[Item, NEUTRAL]
"""A setting that does not decide the result: a run goes on when it was changed. It changes nothing at all, or, where
products are computed in other batches or on another device, the last bits that rounding leaves open anyway."""


class Section(BaseModel):
    """A group of settings. A key that it does not have is an error, and nothing in it can be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
