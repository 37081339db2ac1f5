"""Config section of what training minimises: loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from downscale.config.inputs import Strict


class LossConfig(Strict):
    """What training minimises, in transformed target space."""

    name: Literal["mse", "mae"] = Field("mse", description="squared or absolute errors over valid cells and days")
    balance: Literal["likelihood", "none"] = Field(
        "likelihood", description="likelihood: an improvement by a tenth counts the same for every target; none: the largest errors decide"
    )
