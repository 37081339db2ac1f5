"""Config sections of the transfer diagnostics: separability, and the traffic light that draws them together."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from downscale.config.inputs import Strict

RuleName = Literal["climate", "spread", "inconsistency", "separability", "outside", "warming"]
DEFAULTS: dict[RuleName, tuple[float, float]] = {
    "climate": (0.5, 1.0),
    "spread": (0.2, 0.5),
    "inconsistency": (0.2, 0.5),
    "separability": (0.75, 0.95),
    "outside": (0.05, 0.2),
    "warming": (0.1, 0.5),
}


class SeparabilityConfig(Strict):
    """Can a classifier tell the GCM's days from those that an emulator has learned from?"""

    components: int = Field(50, ge=1, description="principal components that the classifiers see; at most a tenth of the days")
    max_days: int = Field(1200, ge=20, description="days of each side at most, evenly spaced")


class Limits(Strict):
    """From where on a rule is yellow, and from where on red."""

    yellow: float = Field(ge=0, description="a value above it is yellow")
    red: float = Field(ge=0, description="a value above it is red")

    @model_validator(mode="after")
    def _in_order(self) -> Limits:
        if self.red < self.yellow:
            raise ValueError(f"red ({self.red:g}) lies below yellow ({self.yellow:g})")
        return self


class LightConfig(Strict):
    """Traffic light of an emulator on a GCM: rules on predictors, calibrated where a GCM has an RCM run."""

    rules: dict[RuleName, Limits | None] = Field(
        default_factory=dict,
        validate_default=True,
        description="limits of the rules climate, spread, inconsistency, separability, outside, warming; those not named keep their "
        "defaults, null switches a rule off",
    )
    metric: Literal["w1", "abs_bias", "abs_p99_bias", "rmse"] = Field(
        "w1", description="score whose growth against the run's own training pairs is the loss that the light is held against"
    )
    loss_yellow: float = Field(1.25, gt=0, description="a loss (ratio) above it deserves yellow")
    loss_red: float = Field(2.0, gt=0, description="a loss (ratio) above it deserves red")
    calibrate: bool = Field(True, description="move the limits to what GCMs with an RCM run show, each judged by the others only")

    @field_validator("rules", mode="before")
    @classmethod
    def _defaults_stay(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: {"yellow": yellow, "red": red} for name, (yellow, red) in DEFAULTS.items()} | given

    @model_validator(mode="after")
    def _losses_in_order(self) -> LightConfig:
        if self.loss_red < self.loss_yellow:
            raise ValueError(f"loss_red ({self.loss_red:g}) lies below loss_yellow ({self.loss_yellow:g})")
        return self
