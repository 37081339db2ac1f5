"""Options of evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from downscale.config.ensembles import FssConfig, ProbabilisticConfig, Years
from downscale.config.inputs import Strict, Token
from downscale.config.light import LightConfig, SeparabilityConfig
from downscale.config.regimes import RegimesConfig


class RegionConfig(Strict):
    """A region of the scores: a box (lon and lat), or what a file marks (mask and variable)."""

    lon: list[float] | None = Field(
        None, min_length=2, max_length=2, description="western and eastern bound (degrees east); the box may cross the date line"
    )
    lat: list[float] | None = Field(None, min_length=2, max_length=2, description="southern and northern bound (degrees north)")
    mask: str | None = Field(None, description="NetCDF file with lat and lon; its cells must hold those of the targets")
    variable: str | None = Field(None, description="variable of the mask that is at least one half (50 %) inside")

    @model_validator(mode="after")
    def _one_kind(self) -> RegionConfig:
        given = [name for name in ("lon", "lat", "mask", "variable") if getattr(self, name) is not None]
        if given not in (["lon", "lat"], ["mask", "variable"]):
            raise ValueError(f"a region has lon and lat, or mask and variable, not {' and '.join(given) or 'nothing'}")
        if self.lat and self.lat[0] >= self.lat[1]:
            raise ValueError(f"lat: the southern bound comes first, not {self.lat}")
        return self


class EvaluateConfig(Strict):
    """Scores."""

    region: Literal["all", "land"] = Field("all", description="land: only cells with at least half land; needs static sftlf")
    regions: dict[Token, RegionConfig] = Field(
        {}, description="more regions for the scores, by a name of your choice: {lon, lat} of a box, or {mask, variable} of a file"
    )
    december: Literal["calendar", "next"] = Field(
        "calendar",
        description="winter of a December in the season DJF: calendar: that of its year (split.year_starts); next: that of the January "
        "after it, and winters that lack a month are left out of DJF",
    )
    wet_day_mm: float = Field(1.0, gt=0, description="a wet day has at least this much precipitation (mm/day)")
    separability: SeparabilityConfig = Field(SeparabilityConfig(), description="classifiers on predictors")
    warming_bin: float = Field(1.0, gt=0, description="width of the warming classes of the extrapolation curve (K)")
    light: LightConfig = Field(LightConfig(), description="traffic light of an emulator on a GCM")
    fss: FssConfig = Field(FssConfig(), description="fractions skill score of precipitation")
    probabilistic: ProbabilisticConfig = Field(ProbabilisticConfig(), description="reliability of ensembles")
    regimes: RegimesConfig = Field(RegimesConfig(), description="weather regimes")
    return_years: list[Years] = Field([10.0, 20.0, 50.0], description="return periods of the pooled return levels (years)")

    @model_validator(mode="after")
    def _names_are_free(self) -> EvaluateConfig:
        taken = sorted({"all", "land"} & set(self.regions))
        if taken:
            raise ValueError(f"regions: the name '{taken[0]}' has a meaning already: choose another")
        return self
