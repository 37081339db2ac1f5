"""The config as strict data. Every field describes itself; docs/reference/config.md is generated from here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from downscale.config.inputs import (
    CoarsenTarget,
    DomainConfig,
    DomainTarget,
    ForcingsConfig,
    GridFileTarget,
    MissingConfig,
    PredictorConfig,
    ResolutionTarget,
    SourceConfig,
    SplitConfig,
    Strict,
    TargetConfig,
    Token,
    UpscaleConfig,
    VariableName,
)
from downscale.variables import Channel

__all__ = [
    "ApplyConfig",
    "CoarsenTarget",
    "DomainConfig",
    "DomainTarget",
    "EvaluateConfig",
    "ExperimentConfig",
    "FewShotConfig",
    "FineTuneConfig",
    "ForcingsConfig",
    "GridFileTarget",
    "LossConfig",
    "MissingConfig",
    "ModelConfig",
    "NormaliseConfig",
    "PredictorConfig",
    "ResolutionTarget",
    "RidgeConfig",
    "SourceConfig",
    "SplitConfig",
    "Strict",
    "TargetConfig",
    "TrainConfig",
    "UpscaleConfig",
]


class RidgeConfig(Strict):
    """Ridge regression, the mandatory linear baseline and the backbone of the networks that ask for one."""

    alphas: list[float] = Field(
        [0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5], min_length=1, description="candidates; chosen per target on validation days"
    )


class ModelConfig(Strict):
    """The network."""

    name: Literal["unet_doury", "resunet"] = Field(
        "resunet", description="unet_doury: Doury et al. 2022; resunet: residual UNet with static fields"
    )
    width: int = Field(32, ge=4, description="channels of the first encoder level (64 in Doury et al.)")
    backbone: Literal["none", "ridge"] = Field("none", description="ridge: the network learns what ridge regression leaves")
    static: bool | None = Field(
        None, description="feed orography, land fraction and cell position to the decoder; default true for resunet, which alone can"
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="channel dropout in the residual blocks (resunet only)")

    @model_validator(mode="after")
    def _only_what_the_network_has(self) -> ModelConfig:
        if self.name == "unet_doury" and (self.static or self.dropout):
            raise ValueError("unet_doury has neither fixed fields nor dropout: leave out static and dropout, or use resunet")
        return self


class NormaliseConfig(Strict):
    """How inputs and targets are scaled. Fitted on training days only."""

    predictors: Literal["map", "gridpoint", "channel"] = Field(
        "gridpoint", description="map: each day's map by its own moments, which become scalars (Doury et al.); else by training statistics"
    )
    targets: dict[VariableName, Literal["none", "standardise", "log1p", "sqrt"]] = Field(
        {}, description="per target; default standardise (mean and std of each grid point; also after log1p, sqrt)"
    )


class LossConfig(Strict):
    """What training minimises, in transformed target space."""

    name: Literal["mse", "mae"] = Field("mse", description="squared or absolute errors over valid cells and days")
    balance: Literal["likelihood", "none"] = Field(
        "likelihood", description="likelihood: an improvement by a tenth counts the same for every target; none: the largest errors decide"
    )


class TrainConfig(Strict):
    """The training loop; finetune and few_shot start from these values."""

    on: list[str] = Field(
        min_length=1,
        description="pairs to learn from: NAME/perfect (RCMu -> RCM) or NAME/imperfect (GCM -> RCM, reanalysis -> observations)",
    )
    epochs: int = Field(60, ge=1, description="at most this many passes over the training days")
    batch_size: int = Field(64, ge=1, description="days a step")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate (AdamW)")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay")
    schedule: Literal["cosine", "plateau"] = Field(
        "cosine", description="cosine with warm-up, or x 0.7 after 4 epochs without progress (Doury et al.)"
    )
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up, in epochs (cosine only)")
    patience: int = Field(15, ge=1, description="stop after this many epochs without a better validation loss")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of an exponential moving average of the weights; 0: off")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    seed: int = Field(0, ge=0, description="seed of weights, shuffling and dropout")
    baselines: list[Literal["bilinear", "climatology", "ridge"]] = Field(
        ["bilinear", "climatology", "ridge"], description="fitted on the same pairs, applied beside"
    )


class FineTuneConfig(Strict):
    """Go on from a trained run on other pairs; what is not given is taken from train."""

    on: list[str] = Field(min_length=1, description="pairs to adapt to, as train.on")
    epochs: int = Field(20, ge=1, description="at most this many passes")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    l2_sp: float = Field(1e-3, ge=0, description="pull towards the starting weights: l2_sp / 2 * |w - w0|^2 (L2-SP)")


class FewShotConfig(FineTuneConfig):
    """Fine-tuning on a few whole years of the target pairs."""

    shots: int = Field(
        2, ge=1, description="number of whole years; spread evenly over the training years, an equal share from each contiguous period"
    )


class ApplyConfig(Strict):
    """Emulation."""

    days: Literal["all", "test"] = Field("all", description="test: only the test days of sources with truth, enough for evaluate")
    block_days: int = Field(365, ge=1, description="days read, computed and written at a time")
    compression: int = Field(1, ge=0, le=9, description="deflate level of the written NetCDF")


class EvaluateConfig(Strict):
    """Scores."""

    region: Literal["all", "land"] = Field("all", description="land: only cells with at least half land; needs static sftlf")
    wet_day_mm: float = Field(1.0, gt=0, description="a wet day has at least this much precipitation (mm/day)")


class ExperimentConfig(Strict):
    """One experiment: everything between the files and the report."""

    workspace: str = Field(description="folder of all results, relative to the config file")
    sources: dict[Token, SourceConfig] = Field(min_length=1, description="the runs, by a name of your choice")
    predictors: list[PredictorConfig] = Field(min_length=1, description="input maps")
    targets: list[TargetConfig] = Field(min_length=1, description="fine fields to emulate")
    static: list[Literal["orog", "sftlf"]] = Field(
        [], description="fine fixed fields, found among the files of the first rcm or observations source"
    )
    forcings: ForcingsConfig | None = Field(None, description="yearly numbers by CSV")
    domain: DomainConfig = Field(DomainConfig(), description="relaxation zone, coarse and fine box")
    upscale: UpscaleConfig = Field(description="the coarse grid, and how RCM fields become RCMu")
    missing: MissingConfig = Field(MissingConfig(), description="policies for gaps, NaN days, levels under the ground, constant predictors")
    split: SplitConfig = Field(description="training, validation and test days")
    model: ModelConfig = Field(ModelConfig(), description="the network")
    ridge: RidgeConfig = Field(RidgeConfig(), description="ridge regression")
    normalise: NormaliseConfig = Field(NormaliseConfig(), description="scaling of inputs and targets")
    loss: LossConfig = Field(LossConfig(), description="what training minimises")
    train: TrainConfig = Field(description="the training loop")
    finetune: FineTuneConfig | None = Field(None, description="train --mode finetune")
    few_shot: FewShotConfig | None = Field(None, description="train --mode few-shot")
    apply: ApplyConfig = Field(ApplyConfig(), description="emulation")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="scores")

    @model_validator(mode="after")
    def _names_refer_to_something(self) -> ExperimentConfig:
        truths = {name for name, source in self.sources.items() if source.is_truth}
        if not truths:
            raise ValueError("sources: at least one source needs role: rcm or observations")
        self._check_drivers(truths)
        to = self.upscale.to
        if isinstance(to, str) and (to not in self.sources or self.sources[to].is_truth):
            raise ValueError(f"upscale.to: '{to}' is not a gcm or reanalysis source")
        for section in ("train", "finetune", "few_shot"):
            settings = getattr(self, section)
            for pair in settings.on if settings else []:
                self._check_pair(section, pair, truths)
        return self

    def _check_drivers(self, truths: set[str]) -> None:
        driven: dict[str, str] = {}
        for name, source in self.sources.items():
            if source.role == "observations" and self.driver_of(name) is None:
                raise ValueError(f"sources.{name}: observations need a reanalysis or gcm source with drives: {name}")
            if source.drives is None:
                continue
            if source.drives not in truths:
                raise ValueError(
                    f"sources.{name}.drives: '{source.drives}' is not an rcm source nor observations (have {', '.join(sorted(truths))})"
                )
            if source.drives in driven:
                raise ValueError(f"sources.{name}.drives: '{source.drives}' is already driven by '{driven[source.drives]}'")
            driven[source.drives] = name

    def _check_pair(self, section: str, pair: str, truths: set[str]) -> None:
        name, _, kind = pair.partition("/")
        if name not in truths or kind not in ("perfect", "imperfect"):
            raise ValueError(f"{section}.on: '{pair}' is not NAME/perfect or NAME/imperfect with NAME one of {', '.join(sorted(truths))}")
        if kind == "perfect" and self.sources[name].role == "observations":
            raise ValueError(f"{section}.on: '{pair}': observations are never upscaled; learn from {name}/imperfect")
        if kind == "imperfect" and self.driver_of(name) is None:
            raise ValueError(f"{section}.on: '{pair}' needs a gcm source with drives: {name}")

    def channels(self) -> list[Channel]:
        """All input channels in order."""
        return [channel for predictor in self.predictors for channel in predictor.channels()]

    def driver_of(self, truth: str) -> str | None:
        """Name of the coarse source that is paired with an rcm or observations source, or None."""
        return next((name for name, source in self.sources.items() if source.drives == truth), None)

    def workspace_path(self) -> Path:
        """The workspace as a path (absolute after loading)."""
        return Path(self.workspace)
