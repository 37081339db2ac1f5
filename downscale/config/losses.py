"""Config section of what training minimises: loss."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from downscale.config.inputs import Strict, VariableName
from downscale.variables import lookup

LossName = Literal["mse", "mae", "huber", "asymmetric_gamma", "gaussian", "bernoulli_gamma", "afcrps"]
OF_AMOUNTS = ("asymmetric_gamma", "bernoulli_gamma")
"""Losses of amounts in mm/day: wet days are a part of them."""
_AMOUNT_UNITS = "mm day-1"
_NEEDS = {
    "huber_delta": ("huber",),
    "asymmetry": ("asymmetric_gamma",),
    "asymmetry_power": ("asymmetric_gamma",),
    "wet_threshold": ("bernoulli_gamma",),
    "members": ("afcrps",),
    "noise": ("afcrps",),
}
"""Option -> the losses that read it."""
_SINCE_THE_FIRST = ("name", "balance")


class LossConfig(Strict):
    """What training minimises, in transformed target space."""

    name: LossName = Field(
        "mse",
        description="over valid cells and days: mse, mae, huber: of single values; asymmetric_gamma: mae that costs more where heavy rain "
        "is underestimated (Doury et al. 2024); gaussian: mean and variance by likelihood; bernoulli_gamma: chance and amount of rain by "
        "likelihood; afcrps: an ensemble by random numbers in the network, fair CRPS",
    )
    targets: dict[VariableName, LossName] = Field({}, description="losses of single targets, in place of name")
    balance: Literal["likelihood", "none"] = Field(
        "likelihood", description="likelihood: an improvement by a tenth counts the same for every target; none: the largest errors decide"
    )
    land_only: bool = Field(False, description="only cells with at least half land count; needs static sftlf")
    coarse: float = Field(
        0.0, ge=0, description="weight of the squared errors of averages over coarse cells, added to the loss of each target; 0: off"
    )
    huber_delta: float = Field(1.0, gt=0, description="huber: errors beyond this count by their size (loss space: standard deviations)")
    asymmetry: float = Field(1.0, ge=0, description="asymmetric_gamma: lambda, the extra cost of underestimating the heaviest rain")
    asymmetry_power: float = Field(2.0, gt=0, description="asymmetric_gamma: power of the gamma distribution function in the extra cost")
    wet_threshold: float = Field(1.0, gt=0, description="bernoulli_gamma: a wet day has at least this much (mm/day)")
    members: int = Field(2, ge=2, description="afcrps: members a training step, each a pass through the network")
    noise: int = Field(16, ge=1, description="afcrps: random numbers that follow the numbers of the day into the network")

    @model_validator(mode="after")
    def _only_what_the_losses_have(self) -> LossConfig:
        used = {self.name, *self.targets.values()}
        for option, losses in _NEEDS.items():
            if getattr(self, option) != type(self).model_fields[option].default and not used & set(losses):
                raise ValueError(f"{option} belongs to {' and '.join(losses)}: leave it out, or choose that loss")
        return self

    def of(self, target: str) -> str:
        """The loss of a target."""
        return self.targets.get(target, self.name)

    def outputs(self, targets: Sequence[str]) -> dict[str, Any]:
        """What a network needs beyond single values, for its spec: ``heads`` and ``noise``, each only where there are any."""
        heads: dict[str, dict[str, Any]] = {}
        for target in targets:
            if self.of(target) == "gaussian":
                heads[target] = {"kind": "gaussian"}
            elif self.of(target) == "bernoulli_gamma":
                heads[target] = {"kind": "bernoulli_gamma", "wet_mm": self.wet_threshold}
        noise = {"noise": self.noise} if any(self.of(target) == "afcrps" for target in targets) else {}
        return {**({"heads": heads} if heads else {}), **noise}

    def recipe(self) -> dict[str, Any]:
        """``loss``: what differs from the defaults beyond name and balance, which are among the settings; as a rule nothing."""
        fields, values = type(self).model_fields, self.model_dump(exclude=set(_SINCE_THE_FIRST))
        more = {name: value for name, value in values.items() if value != fields[name].get_default()}
        return {"loss": more} if more else {}

    def misfit(self, targets: Sequence[str], transforms: Collection[str], detrend: str | None, static: Sequence[str]) -> str:
        """Why an experiment cannot have this loss, or nothing.

        Args:
            targets: names of the targets.
            transforms: targets that have a transform of their own (normalise.targets).
            detrend: the forcing whose trend is taken out (normalise.detrend), or None.
            static: fixed fields of the experiment.
        """
        unknown = sorted(set(self.targets) - set(targets))
        if unknown:
            return f"loss.targets: {', '.join(unknown)} is not a target (have {', '.join(targets)})"
        for target in targets:
            loss = self.of(target)
            if loss in OF_AMOUNTS and lookup(target).units != _AMOUNT_UNITS:
                return f"loss: {loss} is for precipitation, not for {target}: give each target its loss by loss.targets"
            if loss == "bernoulli_gamma" and target in transforms:
                return f"normalise.targets.{target}: bernoulli_gamma is a distribution of amounts in mm/day: leave the transform out"
            if loss == "bernoulli_gamma" and detrend:
                return f"normalise.detrend: there is no trend to be put back into a distribution of amounts: give {target} another loss"
        if self.land_only and "sftlf" not in static:
            return "loss.land_only: needs the land fraction: set static: [sftlf]"
        return ""
