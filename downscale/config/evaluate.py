"""Options of evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from downscale.config.inputs import Strict


class EvaluateConfig(Strict):
    """Scores."""

    region: Literal["all", "land"] = Field("all", description="land: only cells with at least half land; needs static sftlf")
    wet_day_mm: float = Field(1.0, gt=0, description="a wet day has at least this much precipitation (mm/day)")
