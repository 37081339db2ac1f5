"""Options of scores of ensembles, of rain in the right neighbourhood, and of return levels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from downscale.config.inputs import Strict

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Years = Annotated[float, Field(gt=1)]


class FssConfig(Strict):
    """Fractions skill score of precipitation."""

    thresholds: list[Positive] = Field([1.0, 5.0, 10.0, 20.0], description="an event has at least this much precipitation (mm/day)")
    cells: list[int] = Field([1, 3, 5, 9], description="sides of the windows, odd numbers of cells")

    @field_validator("cells")
    @classmethod
    def _odd(cls, value: list[int]) -> list[int]:
        if any(one < 1 or one % 2 == 0 for one in value):
            raise ValueError("a window has a centre: give odd numbers, as 1, 3, 5")
        return value


class ProbabilisticConfig(Strict):
    """Reliability of ensembles."""

    thresholds: list[Positive] = Field([1.0, 10.0, 20.0], description="events of precipitation: at least this much (mm/day)")
    quantiles: list[Share] = Field([0.1, 0.9], description="events of other variables: at or above this quantile of the truth's test days")
