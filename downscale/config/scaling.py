"""Config section of the scaling of inputs and targets: normalise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from downscale.config.inputs import Strict, VariableName


class NormaliseConfig(Strict):
    """How inputs and targets are scaled. Fitted on training days only."""

    predictors: Literal["map", "gridpoint", "channel", "monthly"] = Field(
        "gridpoint",
        description="map: each day's map by its own moments, which become scalars (Doury et al.); else by training statistics: "
        "of each cell, of each channel, or (monthly) of each cell and calendar month",
    )
    targets: dict[VariableName, Literal["none", "standardise", "log1p", "sqrt"]] = Field(
        {}, description="per target; default standardise (mean and std of each grid point; also after log1p, sqrt)"
    )
    detrend: str | None = Field(
        None,
        min_length=1,
        description="a column of forcings: the linear dependence of each cell on it is taken out of predictors and targets (but not out "
        "of targets with none) and the targets' part is added back",
    )
