"""Config sections of apply that say how far an emulator may be trusted: distance from the training days, members."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from downscale.config.inputs import Strict


class OodConfig(Strict):
    """Days that are far from the training days (out of distribution); every file says which they are."""

    threshold_share: float = Field(
        0.05, ge=0, le=1, description="share of flagged days of a prediction above which this is said; held-out training years have 0.005"
    )
    on_exceed: Literal["warn", "fail"] = Field(
        "warn", description="what then: a warning, or (fail) exit code 7 when all files are written, for scripts"
    )


class MembersConfig(Strict):
    """Several fields a day instead of one."""

    of: Literal["seeds", "samples", "dropout"] = Field(
        description="seeds: runs that differ in their seed only; samples: draws from a network that gives distributions; dropout: draws "
        "with the dropout of training left on (resunet with model.dropout)"
    )
    number: int | None = Field(None, ge=2, description="how many; empty: all seeds, or ten draws")
    write: Literal["members", "mean_and_spread"] = Field(
        "members", description="members: all, along a dimension realization; mean_and_spread: their mean, and their std in a folder spread"
    )
