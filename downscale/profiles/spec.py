"""What is to be written, in one description for all layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from downscale.grid.grid import Grid
from downscale.variables import Variable, lookup


@dataclass(frozen=True)
class OutputSpec:
    """One output: the variables of one prediction over one period.

    Attributes:
        folder: of the prediction.
        variables: names in the variable table, in the order of the fields.
        grid: the fine grid.
        calendar: of the days.
        days: yyyymmdd, ascending, those of this output.
        attributes: global attributes: provenance.
        facets: what names the source and the output, e.g. driving_source_id.
        members: labels of realizations; empty for fields without that dimension.
        series: name -> attributes of the numbers a day that are written beside the fields.
        period: "" for the whole, else e.g. "19900101-19941231", which becomes part of the file names.
        compression: deflate level, 0 for none.
        significant_bits: bits of the mantissa that are kept; None for all.
        statistic: over the members of an ensemble, which the fields are; "" for fields themselves.
        before: the last day (yyyymmdd) of the same prediction that another output holds; None where these are the first.
        inputs: the files that were read, for the list beside an archive's files.
    """

    folder: Path
    variables: tuple[str, ...]
    grid: Grid
    calendar: str
    days: np.ndarray
    attributes: Mapping[str, str]
    facets: Mapping[str, str] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    series: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    period: str = ""
    compression: int = 1
    significant_bits: int | None = None
    statistic: Literal["", "mean", "standard_deviation"] = ""
    before: int | None = None
    inputs: Sequence[Mapping[str, Any]] = ()

    def row(self, name: str) -> Variable:
        """A variable as it is written: a statistic over members says so in its cell methods."""
        variable = lookup(name)
        if not self.statistic:
            return variable
        return replace(variable, cell_methods=f"{variable.cell_methods} realization: {self.statistic}")

    @property
    def about_values(self) -> dict[str, str]:
        """Attributes of variables in kelvin that are differences of temperature, not temperatures."""
        return {"units_metadata": "temperature: difference"} if self.statistic == "standard_deviation" else {}

    def ending(self, suffix: str) -> str:
        """Of the names of the files: the period, where there are several, and the suffix."""
        return f"_{self.period}{suffix}" if self.period else suffix
