"""Config sections of the networks: model, ridge."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from downscale.config.inputs import Strict


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
