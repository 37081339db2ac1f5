"""The sections of the config that say what goes in: sources, variables, grids, days."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from downscale.variables import TABLE, UPPER_AIR, Channel

Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that becomes a folder or part of a file name: letters, digits, dot, dash and underscore only."""

Period = int | str
"""A year (2001), a span of years ("1983-1997"), or a span of dates ("1983-12-01/1998-02-28"); both ends belong to it."""


def _known(name: str) -> str:
    if name not in TABLE:
        raise ValueError(f"'{name}' is not in the variable table ({', '.join(TABLE)})")
    return name


VariableName = Annotated[str, AfterValidator(_known)]


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number} is even: a moving average needs a middle, give an odd number")
    return number


OddNumber = Annotated[int, AfterValidator(_odd)]


class Strict(BaseModel):
    """Base of all sections: unknown keys are errors, values are never coerced across types, objects are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceConfig(Strict):
    """One model run (or several experiments of it) and its files."""

    role: Literal["rcm", "gcm", "reanalysis", "observations"] = Field(
        description="rcm: fine truth, upscaled to RCMu; observations: fine truth only; gcm, reanalysis: coarse input"
    )
    files: list[str] = Field(
        min_length=1,
        description="globs, paths or folders (searched for *.nc, whole trees), relative to the config file; order does not matter",
    )
    select: dict[str, str | list[str]] = Field(
        {}, description="only files with these global attributes, e.g. {experiment_id: [historical, ssp585], variant_label: r1i1p1f1}"
    )
    drives: str | None = Field(
        None, description="for a gcm or reanalysis: the rcm or observations source with the same days; the two are paired day by day"
    )
    variables: dict[VariableName, str] = Field({}, description="our name: the name in the files, where discovery is not enough")
    assume_units: dict[VariableName, str] = Field({}, description="units that replace the files' attribute; recorded in every artefact")
    fill_values: list[float] = Field(
        [], description="stored numbers that mean missing although the files do not say so, e.g. [-999, 1.0e20]; counted in the log"
    )
    member: int | str | None = Field(
        None, description="which member of an ensemble dimension: its label, or its position from 0 where the dimension has no labels"
    )
    aggregate: Literal["none", "mean", "cell_methods"] = Field(
        "none",
        description="mean: daily means of sub-daily steps (whole days only); cell_methods: so for means, and for tasmax and tasmin the "
        "highest and lowest of the day's sub-daily maxima and minima",
    )
    winds: Literal["stated", "grid"] = Field(
        "stated",
        description="grid: ua, va, uas, vas are along the grid's x and y although their standard names do not say so (x_wind, "
        "grid_eastward_wind); such winds are turned to true east and north",
    )
    facets: dict[str, str] = Field(
        {},
        description="facts about the run (source_id, experiment_id, variant_label, institution_id ...) that outputs state as driving_...; "
        "for an rcm give its driver's as driving_source_id ... beside its own source_id",
    )

    @model_validator(mode="after")
    def _only_coarse_sources_drive(self) -> SourceConfig:
        if self.drives and self.is_truth:
            raise ValueError("only a source with role gcm or reanalysis can have 'drives'")
        return self

    @property
    def is_truth(self) -> bool:
        """Whether the source holds fine fields to learn from (rcm, observations) rather than coarse input."""
        return self.role in ("rcm", "observations")


class PredictorConfig(Strict):
    """One predictor variable."""

    name: VariableName = Field(description="CMOR name")
    levels: list[int] = Field([], description="pressure levels in hPa, for upper-air variables")

    @model_validator(mode="after")
    def _levels_where_they_belong(self) -> PredictorConfig:
        if self.name in UPPER_AIR and not self.levels:
            raise ValueError(f"{self.name} needs levels, e.g. levels: [850, 700, 500]")
        if self.name not in UPPER_AIR and self.levels:
            raise ValueError(f"{self.name} is a surface variable: it has no levels")
        return self

    def channels(self) -> list[Channel]:
        """The channels in the order given."""
        return [Channel(self.name, level) for level in self.levels] or [Channel(self.name)]


class TargetConfig(Strict):
    """One fine field to emulate."""

    name: VariableName = Field(description="CMOR name")


class ForcingsConfig(Strict):
    """Yearly forcings that enter the network as numbers: a CSV with a 'year' column."""

    file: str = Field(description="CSV path, relative to the config file")
    columns: list[str] = Field(min_length=1, description="columns to use, e.g. [GHG, solar]")


class DomainConfig(Strict):
    """Which part of the grids takes part."""

    relaxation_cells: int = Field(0, ge=0, description="RCM cells dropped at each side before anything else")
    coarse_box: list[float] | None = Field(
        None,
        min_length=4,
        max_length=4,
        description="[lon_min, lon_max, lat_min, lat_max] of cell centres; default: the largest rectangle that the RCM covers fully, or "
        "the cells that touch the observations",
    )
    fine_box: list[int] | None = Field(
        None,
        min_length=4,
        max_length=4,
        description="[x_start, x_stop, y_start, y_stop] of the RCM file's cells (stop excluded); default: all inside the coarse box",
    )


class GridFileTarget(Strict):
    """Upscale to the grid of a file."""

    grid_file: str = Field(description="NetCDF file whose grid is the target")


class CoarsenTarget(Strict):
    """Upscale by merging RCM cells."""

    coarsen: int = Field(ge=2, description="N: each coarse cell is N x N RCM cells")


class ResolutionTarget(Strict):
    """Upscale to a regular longitude-latitude grid."""

    resolution: float = Field(gt=0, description="cell size in degrees, cell edges at whole multiples of it")


class DomainTarget(Strict):
    """Upscale to the grid of a CORDEX domain."""

    domain: str = Field(description="name of a CORDEX domain, e.g. EUR-44 (the same as EUR-50) or EUR-50i")


def _upscale_kind(value: object) -> str:
    """Which of the four forms of upscale.to is meant, so that errors speak of that form only."""
    if isinstance(value, dict):
        close = difflib.get_close_matches(str(next(iter(value), "")), ("grid_file", "coarsen", "resolution", "domain"), n=1)
        return close[0] if close else "coarsen"
    kinds = {GridFileTarget: "grid_file", CoarsenTarget: "coarsen", ResolutionTarget: "resolution", DomainTarget: "domain"}
    return kinds.get(type(value), "source")  # type: ignore[call-overload]


UpscaleTarget = Annotated[
    Annotated[str, Tag("source")]
    | Annotated[GridFileTarget, Tag("grid_file")]
    | Annotated[CoarsenTarget, Tag("coarsen")]
    | Annotated[ResolutionTarget, Tag("resolution")]
    | Annotated[DomainTarget, Tag("domain")],
    Discriminator(_upscale_kind),
]


class UpscaleConfig(Strict):
    """The coarse grid, and how RCMu is made from RCM fields."""

    to: UpscaleTarget = Field(
        description="a coarse source (the grid of its first predictor), or {grid_file: ...}, {coarsen: N}, {resolution: degrees}, "
        "{domain: EUR-44}"
    )
    engine: Literal["auto", "builtin", "xesmf", "file"] = Field(
        "auto",
        description="what computes the weights: auto: xesmf where it is installed, else builtin (the same numbers); file: weights_file",
    )
    edges: Literal["great_circle", "parallels"] = Field(
        "great_circle",
        description="cell edges between two corners on one latitude: great circles, as ESMF, or parallels, as CDO takes them",
    )
    weights_file: str | None = Field(
        None, description="with engine file: weights of ESMF, xESMF or CDO from the rcm's whole grid to the whole grid of upscale.to"
    )
    smooth: OddNumber = Field(
        1, ge=1, description="k: a moving average over k x k coarse cells on RCMu and on the GCM alike, k odd; 3: as Doury et al. 2022"
    )
    min_valid_fraction: float = Field(0.5, gt=0, le=1, description="a coarse cell with less valid area than this is missing")

    @model_validator(mode="after")
    def _engine_fits(self) -> UpscaleConfig:
        if (self.engine == "file") != (self.weights_file is not None):
            raise ValueError("engine: file and weights_file go together")
        if self.engine in ("xesmf", "file") and self.edges == "parallels":
            raise ValueError("edges: parallels needs engine: builtin: ESMF takes great circles, and a file has its own edges")
        if isinstance(self.to, CoarsenTarget) and (self.engine != "auto" or self.edges != "great_circle"):
            raise ValueError("engine and edges have no meaning with to: {coarsen: N}, whose cells are whole RCM cells")
        return self


class MissingConfig(Strict):
    """What to do about days that are not there or not whole."""

    gaps: Literal["error", "skip"] = Field("error", description="days missing inside a source's time axis; skip: list them and go on")
    nan_days: Literal["error", "drop"] = Field("error", description="days with NaN in a predictor; drop: list them and leave them out")
    below_ground: Literal["error", "mask"] = Field(
        "error",
        description="NaN of upper-air predictors under the orography; mask: the training mean stands in and a mask channel says where",
    )
    constant_channels: Literal["error", "drop"] = Field(
        "error", description="predictors that are constant or missing over all training days; drop: list them and feed zeros"
    )
    day_shift_hours: float = Field(
        6.0,
        ge=0,
        le=12,
        description="time bounds may lie this far from 00-24 h (precipitation days from 06 to 06 h); a day is their middle",
    )


class SplitConfig(Strict):
    """Which days train, choose and judge. Whole years, never random days: neighbouring days are alike."""

    train: list[Period] = Field(min_length=1, description="years, spans of years or of dates")
    validation: list[Period] = Field(min_length=1, description="as train; chooses the best epoch and ridge's alpha")
    test: list[Period] = Field(min_length=1, description="as train; never seen by training")
    year_starts: int = Field(
        1, ge=1, le=12, description="month in which a year begins; 12: December belongs to the next year, so winters stay whole"
    )
    gap_days: int = Field(10, ge=0, description="training days dropped beside validation and test periods")
    refit: bool = Field(
        False,
        description="true: a recipe is chosen, now learn from training and validation days together: ridge and kernel ridge choose as "
        "before and are fitted again to all, networks train for all epochs and keep the last weights",
    )

    @model_serializer(mode="wrap")
    def _what_counts(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``refit`` where it is off, so that the splits of runs from before it are the same as today's."""
        values: dict[str, Any] = handler(self)
        return values if self.refit else {name: value for name, value in values.items() if name != "refit"}
