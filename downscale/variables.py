"""The variable table: one row says everything the code needs to know about a variable.

Working units are what arrays hold inside the tool (precipitation in mm/day); file units are what CMOR tables ask for
and what is written (kg m-2 s-1). Names, standard names, file units and cell methods: CORDEX-CMIP6 CMOR tables, day and fx
(WCRP-CORDEX/cordex-cmip6-cmor-tables). The plausible range is in working units and generous: a value outside it is a
fault of the file (wrong units, an undeclared fill value), never weather.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from downscale.errors import ConfigError

Remap = Literal["conservative", "bilinear"]


@dataclass(frozen=True)
class Variable:
    """One row of the table.

    Attributes:
        name: CMOR name.
        standard_name: CF standard name.
        long_name: CMOR long name.
        units: working units.
        file_units: units in written files.
        cell_methods: of daily output.
        valid_range: lowest and highest plausible value, working units.
        remap: how a coarser or equal grid is brought to another grid.
        height_m: height of a near-surface variable (scalar coordinate), or None.
        non_negative: values below zero are unphysical.
        also: other spellings of the short name met in files.
        also_standard: other standard names that mean this variable after conversion.
    """

    name: str
    standard_name: str
    long_name: str
    units: str
    file_units: str
    cell_methods: str
    valid_range: tuple[float, float]
    remap: Remap = "bilinear"
    height_m: float | None = None
    non_negative: bool = False
    also: tuple[str, ...] = ()
    also_standard: tuple[str, ...] = field(default=())


_MEAN = "area: time: mean"
_X_WIND, _Y_WIND = ("x_wind", "grid_eastward_wind"), ("y_wind", "grid_northward_wind")  # along the grid: turned when read, pairs.winds
_ROWS = (
    Variable("tas", "air_temperature", "Near-Surface Air Temperature", "K", "K", _MEAN, (150.0, 350.0), "bilinear", 2.0, also=("tg",)),
    Variable(
        "tasmax",
        "air_temperature",
        "Daily Maximum Near-Surface Air Temperature",
        "K",
        "K",
        "area: mean time: maximum",
        (150.0, 350.0),
        "bilinear",
        2.0,
        also=("tx",),
    ),
    Variable(
        "tasmin",
        "air_temperature",
        "Daily Minimum Near-Surface Air Temperature",
        "K",
        "K",
        "area: mean time: minimum",
        (150.0, 350.0),
        "bilinear",
        2.0,
        also=("tn",),
    ),
    Variable(
        "pr",
        "precipitation_flux",
        "Precipitation",
        "mm day-1",
        "kg m-2 s-1",
        _MEAN,
        (0.0, 2000.0),
        "conservative",
        non_negative=True,
        also=("rr",),
        also_standard=("lwe_precipitation_rate", "precipitation_amount", "lwe_thickness_of_precipitation_amount"),
    ),
    Variable(
        "psl",
        "air_pressure_at_mean_sea_level",
        "Sea Level Pressure",
        "Pa",
        "Pa",
        _MEAN,
        (85000.0, 110000.0),
        also=("slp",),
        also_standard=("air_pressure_at_sea_level",),
    ),
    Variable(
        "uas",
        "eastward_wind",
        "Eastward Near-Surface Wind",
        "m s-1",
        "m s-1",
        _MEAN,
        (-100.0, 100.0),
        "bilinear",
        10.0,
        also_standard=_X_WIND,
    ),
    Variable(
        "vas",
        "northward_wind",
        "Northward Near-Surface Wind",
        "m s-1",
        "m s-1",
        _MEAN,
        (-100.0, 100.0),
        "bilinear",
        10.0,
        also_standard=_Y_WIND,
    ),
    Variable(
        "zg",
        "geopotential_height",
        "Geopotential Height",
        "m",
        "m",
        _MEAN,
        (-1000.0, 35000.0),
        also=("z",),
        also_standard=("geopotential",),
    ),
    Variable("ta", "air_temperature", "Air Temperature", "K", "K", _MEAN, (130.0, 350.0), also=("t",)),
    Variable("hus", "specific_humidity", "Specific Humidity", "1", "1", _MEAN, (-1e-4, 0.1), also=("q",)),
    Variable("ua", "eastward_wind", "Eastward Wind", "m s-1", "m s-1", _MEAN, (-200.0, 200.0), also=("u",), also_standard=_X_WIND),
    Variable("va", "northward_wind", "Northward Wind", "m s-1", "m s-1", _MEAN, (-200.0, 200.0), also=("v",), also_standard=_Y_WIND),
    Variable("orog", "surface_altitude", "Surface Altitude", "m", "m", "area: mean", (-1000.0, 9000.0), "conservative"),
    Variable(
        "sftlf", "land_area_fraction", "Percentage of the Grid Cell Occupied by Land", "%", "%", "area: mean", (0.0, 100.1), "conservative"
    ),
)
TABLE: dict[str, Variable] = {row.name: row for row in _ROWS}
UPPER_AIR = ("zg", "ta", "hus", "ua", "va")


@dataclass(frozen=True)
class Channel:
    """One input map: a variable and, for upper-air variables, its pressure level in hPa."""

    variable: str
    level_hpa: int | None = None

    @classmethod
    def parse(cls, name: str) -> Channel:
        """The channel of a name such as ``zg500`` or ``tas``; whether the table has the variable is not asked."""
        variable = name.rstrip("0123456789")
        return cls(variable, int(name[len(variable) :]) if variable != name else None)

    @property
    def name(self) -> str:
        """CORDEX-style channel name, e.g. ``zg500`` or ``tas``."""
        return self.variable if self.level_hpa is None else f"{self.variable}{self.level_hpa}"


def lookup(name: str) -> Variable:
    """The row of a CMOR name; ConfigError when the table has none."""
    if name not in TABLE:
        raise ConfigError(
            f"variable '{name}' is not in the variable table",
            where=f"known: {', '.join(TABLE)}",
            hint="use a CMOR name; rename a file's variable with sources.NAME.variables",
        )
    return TABLE[name]
