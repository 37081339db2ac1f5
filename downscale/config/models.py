"""Config sections of the networks and of the baselines that have options: model, ridge, kernel_ridge."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from downscale.config.inputs import Strict
from downscale.variables import TABLE, lookup

_OPTIONS: dict[str, frozenset[str]] = {
    "unet_doury": frozenset({"width", "activation_1d", "final_relu", "padding"}),
    "deepesd": frozenset({"filters", "numbers", "land_only"}),
    "resunet": frozenset({"width", "size", "attention", "static", "dropout"}),
}
"""Network -> options of its own. All others in ModelConfig belong to every network."""
_DISTRIBUTIONS = frozenset({"gaussian", "bernoulli_gamma"})
"""Losses whose networks give parameters of a distribution."""
_SINCE_THE_FIRST = ("name", "width", "backbone", "static", "dropout")


class RidgeConfig(Strict):
    """Ridge regression, the mandatory linear baseline and the backbone of the networks that ask for one."""

    alphas: list[float] = Field(
        [0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5], min_length=1, description="candidates; chosen per target on validation days"
    )


class KernelRidgeConfig(Strict):
    """Kernel ridge regression on principal components, for small data. All candidates are tried on validation days, per target."""

    components: list[int] = Field(
        [20, 60, 200, 600], min_length=1, description="candidates: leading principal components of the predictors"
    )
    alphas: list[float] = Field(
        [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
        min_length=1,
        description="candidates: ridge penalties, in units of the kernel (1 for a usual day)",
    )
    gammas: list[float] = Field(
        [0.03, 0.1, 0.3], min_length=1, description="candidates: the Gaussian kernel is exp(-gamma d^2), d^2 being 2 for two unrelated days"
    )

    @model_validator(mode="after")
    def _positive(self) -> KernelRidgeConfig:
        for name in ("components", "alphas", "gammas"):
            if min(getattr(self, name)) <= 0:
                raise ValueError(f"{name}: all candidates must be above 0")
        return self


class ModelConfig(Strict):
    """The network."""

    name: Literal["unet_doury", "deepesd", "resunet"] = Field(
        "resunet",
        description="unet_doury: Doury et al. 2022; deepesd: Baño-Medina et al. 2022, convolutions and a dense layer; resunet: residual "
        "UNet with static fields",
    )
    width: int = Field(32, ge=4, description="channels of the first encoder level (64 in Doury et al.); not for deepesd, nor beside size")
    backbone: Literal["none", "ridge"] = Field("none", description="ridge: the network learns what ridge regression leaves")
    static: bool | None = Field(
        None, description="feed orography, land fraction and cell position to the decoder; default true for resunet, which alone can"
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="channel dropout in the residual blocks (resunet only)")
    size: Literal["small", "base"] | None = Field(
        None, description="resunet only, in place of width: two residual blocks a level, about 3.3 (small) or 12.6 (base) million weights"
    )
    attention: bool = Field(False, description="resunet with a size: self-attention on the halved coarse maps")
    filters: int | None = Field(
        None, ge=1, description="deepesd only: maps of the last convolution, which the dense layer reads; default 1 (10 for precipitation)"
    )
    numbers: bool | None = Field(
        None, description="deepesd only: the dense layer also reads season, forcings and map moments; default false, as published"
    )
    land_only: bool | None = Field(
        None,
        description="deepesd only: outputs only for cells with truth and, by static sftlf, at least half land; default false",
    )
    days_before: int = Field(0, ge=0, le=30, description="maps of this many days before are read too, as further channels")
    days_after: int = Field(0, ge=0, le=30, description="maps of this many days after are read too, as further channels")
    activation_1d: Literal["none", "relu"] | None = Field(
        None, description="unet_doury only: activation in the dense branch of the numbers; default none, as published"
    )
    final_relu: bool | None = Field(
        None,
        description="unet_doury only: targets that cannot be negative end in a ReLU; needs transform none, no backbone; default false",
    )
    padding: Literal["crop", "replicate"] | None = Field(
        None,
        description="unet_doury only, coarse boxes that are not a power of two: crop (default, as published) lets the first convolution "
        "shrink them, replicate pads them up with their edges",
    )

    @model_validator(mode="after")
    def _only_what_the_network_has(self) -> ModelConfig:
        others = frozenset().union(*_OPTIONS.values()) - _OPTIONS[self.name]
        foreign = sorted(name for name in self.model_fields_set & others if getattr(self, name))
        if foreign:
            owners = "; ".join(f"{name}: {' or '.join(net for net, own in _OPTIONS.items() if name in own)}" for name in foreign)
            raise ValueError(f"{self.name} has no {', no '.join(foreign)}: leave out what it has not ({owners})")
        if self.size is not None and "width" in self.model_fields_set:
            raise ValueError("width and size exclude each other: size sets all widths")
        if self.attention and self.size is None:
            raise ValueError("attention needs size: small or base")
        return self

    @model_serializer(mode="wrap")
    def _what_counts(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Options that are not used are left out, so that recipes say only what decides a run."""
        values: dict[str, Any] = handler(self)
        kept = {name: value for name, value in values.items() if name in _SINCE_THE_FIRST or value != type(self).model_fields[name].default}
        idle = {"width"} if self.size is not None else set()
        if self.name == "deepesd":
            idle = {"width", "static", "dropout"}
        return {name: value for name, value in kept.items() if name not in idle}

    def misfit(self, targets: Mapping[str, str], losses: Collection[str], scaling: str) -> str:
        """Why this network cannot be trained like this, or nothing.

        Args:
            targets: target -> transform.
            losses: names of all losses in use.
            scaling: of the predictors (normalise.predictors).
        """
        if self.name == "deepesd" and scaling == "map" and not self.numbers:
            return "model.numbers: deepesd would not see what normalise.predictors: map takes out of the maps; set numbers: true"
        if self.name == "deepesd" and "afcrps" in losses and not self.numbers:
            return "model.numbers: the random numbers of loss afcrps enter deepesd with the others; set numbers: true"
        if not self.final_relu:
            return ""
        foreign = sorted(_DISTRIBUTIONS.intersection(losses))
        if self.backbone != "none" or foreign:
            return f"model.final_relu: does not go with {f'loss {foreign[0]}' if foreign else 'a backbone'}"
        rain = [name for name in targets if name in TABLE and lookup(name).non_negative]
        bent = [name for name in rain if targets[name] != "none"]
        if bent or not rain:
            return f"model.final_relu: needs a target that cannot be negative, and normalise.targets.{(bent or ['pr'])[0]}: none"
        return ""
