"""The config as strict data. Every field describes itself; docs/reference/config.md is generated from here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from downscale.config.apply import ApplyConfig
from downscale.config.evaluate import EvaluateConfig
from downscale.config.hpc import HpcConfig
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
)
from downscale.config.losses import LossConfig
from downscale.config.models import KernelRidgeConfig, ModelConfig, RidgeConfig
from downscale.config.scaling import NormaliseConfig
from downscale.config.training import FewShotConfig, FineTuneConfig, TrainConfig
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
    "HpcConfig",
    "KernelRidgeConfig",
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
    kernel_ridge: KernelRidgeConfig = Field(KernelRidgeConfig(), description="kernel ridge regression (a baseline for small data)")
    normalise: NormaliseConfig = Field(NormaliseConfig(), description="scaling of inputs and targets")
    loss: LossConfig = Field(LossConfig(), description="what training minimises")
    train: TrainConfig = Field(description="the training loop")
    finetune: FineTuneConfig | None = Field(None, description="train --mode finetune")
    few_shot: FewShotConfig | None = Field(None, description="train --mode few-shot")
    apply: ApplyConfig = Field(ApplyConfig(), description="emulation")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="scores")
    hpc: HpcConfig = Field(HpcConfig(), description="jobs on a cluster")

    @model_validator(mode="after")
    def _names_refer_to_something(self) -> ExperimentConfig:
        truths = {name for name, source in self.sources.items() if source.is_truth}
        if not truths:
            raise ValueError("sources: at least one source needs role: rcm or observations")
        self._check_drivers(truths)
        columns = self.forcings.columns if self.forcings else []
        if self.normalise.detrend and self.normalise.detrend not in columns:
            raise ValueError(
                f"normalise.detrend: '{self.normalise.detrend}' is not one of forcings.columns ({', '.join(columns) or 'none'})"
            )
        wanted, names = self.evaluate.regimes.channel, [channel.name for channel in self.channels()]
        if wanted not in ("auto", *names):
            raise ValueError(f"evaluate.regimes.channel: '{wanted}' is not one of the predictors' channels ({', '.join(names)})")
        to = self.upscale.to
        if isinstance(to, str) and (to not in self.sources or self.sources[to].is_truth):
            raise ValueError(f"upscale.to: '{to}' is not a gcm or reanalysis source")
        for section in ("train", "finetune", "few_shot"):
            settings = getattr(self, section)
            for pair in settings.on if settings else []:
                self._check_pair(section, pair, truths)
        return self

    @model_validator(mode="after")
    def _the_network_fits_the_rest(self) -> ExperimentConfig:
        kinds = {target.name: self.normalise.targets.get(target.name, "standardise") for target in self.targets}
        loss = self.loss.model_dump()
        if problem := self.model.misfit(kinds, {loss["name"], *loss.get("targets", {}).values()}, self.normalise.predictors):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _the_loss_fits_the_rest(self) -> ExperimentConfig:
        scaling = self.normalise
        if problem := self.loss.misfit([target.name for target in self.targets], scaling.targets, scaling.detrend, self.static):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _an_emulator_has_its_own_name(self) -> ExperimentConfig:
        own = self.apply.facets.get("source_id", "")
        for name, source in self.sources.items():
            if own and source.role == "rcm" and source.facets.get("source_id", "").lower() == own.lower():
                raise ValueError(f"apply.facets.source_id: '{own}' is the name of the RCM (sources.{name}): an emulator needs its own")
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

    def transform_of(self, target: str, model: str) -> str:
        """Transform of a target for a model; amounts by bernoulli_gamma stay in mm/day in the network, not in the baselines."""
        plain = "none" if model == self.model.name and self.loss.of(target) == "bernoulli_gamma" else "standardise"
        return self.normalise.targets.get(target, plain)

    def driver_of(self, truth: str) -> str | None:
        """Name of the coarse source that is paired with an rcm or observations source, or None."""
        return next((name for name, source in self.sources.items() if source.drives == truth), None)

    def workspace_path(self) -> Path:
        """The workspace as a path (absolute after loading)."""
        return Path(self.workspace)
