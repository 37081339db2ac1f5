"""The config of apply: how predictions are made and written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from downscale.config.inputs import Strict
from downscale.config.trust import MembersConfig, OodConfig


class ApplyConfig(Strict):
    """Emulation."""

    days: Literal["all", "test"] = Field("all", description="test: only the test days of sources with truth, enough for evaluate")
    block_days: int = Field(384, ge=1, description="days read, computed and written at a time; fewer on large grids")
    compression: int = Field(1, ge=0, le=9, description="deflate level of the written NetCDF")
    years_per_file: int | None = Field(
        None,
        ge=1,
        description="years that go to one file, each a piece of work of its own for several workers; 5: 1991 to 1995 as in CORDEX; "
        "default: one file, with profile cordex five years",
    )
    align: Literal["none", "mean", "gcm_align", "quantile", "adabn"] = Field(
        "none",
        description="bring GCM predictors to the climate of the run's training predictors, by month and cell: their mean, or (gcm_align) "
        "mean and variability, or (quantile) distribution; the GCM's own change is kept. adabn: the network's batch "
        "normalisation takes the GCM's statistics instead. Pairs that the run has learned from stay as they are",
    )
    align_to: Literal["training", "own"] = Field(
        "training", description="training: to the predictors that the run has learned from; own: to the RCMu of the RCM that the GCM drives"
    )
    align_window: list[int] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="first and last year of the common historical window of apply.align; its training days count",
    )
    ood: OodConfig = Field(OodConfig(), description="days that are far from the training days")
    members: MembersConfig | None = Field(None, description="several fields a day instead of one; empty: one")
    profile: Literal["cf", "cordex", "zarr"] = Field(
        "cf", description="cf: a CF file per variable; cordex: names, folders and attributes of a CORDEX archive; zarr: one store"
    )
    facets: dict[str, str] = Field(
        {},
        description="what names the output and its maker: domain_id, institution_id, source_id, contact ...; profile cordex asks for those "
        "that are missing, cf and zarr write them as global attributes",
    )
    significant_bits: int | None = Field(
        None, ge=1, le=23, description="bits of the mantissa that are kept, so that files get smaller; default: all 23"
    )
    hash_inputs: bool = Field(
        False, description="profile cordex: the sha256 of each input file in manifest.json; reads all input files once more"
    )

    @model_validator(mode="after")
    def _a_window_to_align_in(self) -> ApplyConfig:
        if (self.align != "none") != (self.align_window is not None):
            raise ValueError("align needs align_window: [first year, last year], and none goes without it")
        if self.align in ("none", "adabn") and self.align_to == "own":
            raise ValueError("align_to: own needs align: mean, gcm_align or quantile")
        if self.align_window and self.align_window[1] < self.align_window[0]:
            raise ValueError("align_window: give the earlier year first")
        return self

    @model_validator(mode="after")
    def _a_list_to_hash_for(self) -> ApplyConfig:
        if self.hash_inputs and self.profile != "cordex":
            raise ValueError("hash_inputs: only profile cordex lists the input files: leave hash_inputs out")
        return self

    @model_validator(mode="after")
    def _one_store_is_one(self) -> ApplyConfig:
        if self.profile == "zarr" and self.years_per_file is not None:
            raise ValueError("years_per_file: profile zarr writes one store: leave years_per_file out")
        return self


class ApplyAlone(Strict):
    """What --set may say where there is no config: how predictions are made and written."""

    apply: ApplyConfig = Field(ApplyConfig(), description="as in the config")
