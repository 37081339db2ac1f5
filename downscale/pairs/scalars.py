"""Numbers of the day: the season and yearly forcings."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np

from downscale.cf.calendar import season_phase, years
from downscale.errors import InputDataError

SEASON = ("season_cos", "season_sin")


class Forcings:
    """Yearly forcings from a CSV with a ``year`` column; a day has the value of its calendar year."""

    def __init__(self, path: Path | None, columns: list[str]) -> None:
        """Read the columns; InputDataError when the file, a column or a number is not there."""
        self.path = path
        self.columns = columns
        self._table: dict[int, list[float]] = {}
        self.fingerprint = ""
        if path is not None:
            self._read(path)

    @property
    def names(self) -> list[str]:
        """Names of all scalars: season first."""
        return [*SEASON, *self.columns]

    def __call__(self, days: np.ndarray, calendar: str) -> np.ndarray:
        """Scalars (n, 2 + columns) float32: cos and sin of the season (SCIENCE 1.3), then the forcings.

        Raises:
            InputDataError: listing the years that the CSV lacks.
        """
        angle = 2.0 * np.pi * season_phase(days, calendar)
        season = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        if not self.columns:
            return season.astype(np.float32)
        wanted, position = np.unique(years(days), return_inverse=True)
        missing = [int(year) for year in wanted if int(year) not in self._table]
        if missing:
            raise InputDataError(
                f"forcings lack the year{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}",
                where=str(self.path),
                hint="add the rows; forcings are never extrapolated",
            )
        values = np.array([self._table[int(year)] for year in wanted])
        return np.concatenate([season, values[position]], axis=1).astype(np.float32)

    def _read(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputDataError(f"cannot read the forcings: {error}", where=str(path), hint="give a CSV with a 'year' column") from None
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        rows = list(csv.DictReader(text.splitlines()))
        header = list(rows[0]) if rows else []
        absent = [name for name in ("year", *self.columns) if name not in header]
        if absent:
            raise InputDataError(
                f"the forcings have no column {', '.join(absent)}",
                where=f"{path}: {', '.join(header) or 'empty'}",
                hint="name columns of the CSV in forcings.columns",
            )
        for number, row in enumerate(rows, start=2):
            try:
                values = [float(row[name]) for name in self.columns]
                year = int(row["year"])
            except (TypeError, ValueError):
                raise InputDataError(
                    "the forcings hold something that is not a number", where=f"{path}, line {number}", hint="mend the row"
                ) from None
            if not np.all(np.isfinite(values)):
                raise InputDataError("the forcings hold a value that is not finite", where=f"{path}, line {number}", hint="mend the row")
            self._table[year] = values
