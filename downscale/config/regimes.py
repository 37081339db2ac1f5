"""Options of the weather regimes of an evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from downscale.config.inputs import Strict


class RegimesConfig(Strict):
    """Weather regimes of the training run's large scale, by which scores are split."""

    channel: str = Field("auto", description="predictor channel, e.g. zg500 or psl; auto: zg500, else psl, else none")
    number: Annotated[int, Field(ge=2, le=12)] | Literal["auto"] = Field(
        "auto", description="of regimes; auto: 4 to 8, whichever is most stable against the choice of days and more so than red noise"
    )
    anomalies: Literal["pattern", "training", "own"] = Field(
        "pattern",
        description="from the annual cycle of the training run, without (pattern) what each period has above it on average over the box; "
        "training: with it, so that warming alone makes new weather; own: from each period's own annual cycle",
    )
