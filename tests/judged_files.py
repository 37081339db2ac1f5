"""Small NetCDF files of a truth and a prediction, for evaluate without a config."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np

from downscale.cf.calendar import encode_days, expected_days

SHAPE = (6, 8)


def make_fields(days, shape=SHAPE, seed=0):
    """tasmax (K) and pr (mm/day) with a seasonal cycle; half of pr is zero."""
    rng = np.random.default_rng(seed)
    cycle = -8 * np.cos(2 * np.pi * (days // 100 % 100) / 12)[:, None, None]
    return {
        "tasmax": (288 + cycle + rng.normal(0, 4, (len(days), *shape))).astype(np.float32),
        "pr": np.maximum(rng.gamma(0.4, 6.0, (len(days), *shape)) - 1.0, 0.0).astype(np.float32),
    }


def write_fields(path: Path, fields, days, *, calendar="standard", lat0=40.0, units=None, members=0) -> Path:
    """One file on a longitude-latitude grid of a quarter degree; with members the fields are repeated on a dimension ``realization``."""
    shape = next(iter(fields.values())).shape[1:]
    with netCDF4.Dataset(path, "w") as file:
        for name, values, of in (
            ("lat", lat0 + 0.25 * np.arange(shape[0]), "degrees_north"),
            ("lon", 5.0 + 0.25 * np.arange(shape[1]), "degrees_east"),
        ):
            file.createDimension(name, len(values))
            axis = file.createVariable(name, "f8", (name,))
            axis.units, axis[:] = of, values
        file.createDimension("time", None)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 1850-01-01", calendar
        time[:] = encode_days(days, calendar)
        if members:
            file.createDimension("realization", members)
        for name, values in fields.items():
            dims = ("time", "realization", "lat", "lon") if members else ("time", "lat", "lon")
            field = file.createVariable(name, "f4", dims, fill_value=np.float32(1e20))
            field.units = (units or {}).get(name, {"tasmax": "K", "pr": "mm day-1"}[name])
            field[:] = np.ma.masked_invalid(np.repeat(values[:, None], members, axis=1) if members else values)
    return path


def make_pair(folder: Path, first=20000101, last=20011231, calendar="standard"):
    """(prediction file, truth file, prediction fields, truth fields, days)."""
    days = np.asarray(expected_days(first, last, calendar))
    truth, noise = make_fields(days), make_fields(days, seed=1)
    prediction = {
        "tasmax": truth["tasmax"] + 0.5 + 0.1 * (noise["tasmax"] - 288),
        "pr": np.maximum(0.8 * truth["pr"] + 0.2 * noise["pr"] - 0.2, 0),
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_fields(folder / f"{name}.nc", one, days, calendar=calendar) for name, one in (("pred", prediction), ("truth", truth))]
    return *files, prediction, truth, days
