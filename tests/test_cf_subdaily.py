"""Sub-daily steps to daily values by what the files say was done along time."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cf_files import Spec, days_of, read_all, refused, write

from downscale.cf import series as series_module
from downscale.cf.open import open_files
from downscale.variables import Channel

MAX, MIN, TAS = Channel("tasmax"), Channel("tasmin"), Channel("tas")
DAYS = days_of(Spec())


def steps_of(parts: int) -> np.ndarray:
    """(day, step, y, x) kelvin, noise, so that the extreme lies anywhere in the day."""
    return np.random.default_rng(parts).normal(285.0, 5.0, (len(DAYS), parts, 3, 4)).astype("f4")


def sub_daily(path: Path, parts: int, *, name: str = "tasmax", method: str = "maximum", data: np.ndarray | None = None, **spec) -> Path:
    values = steps_of(parts) if data is None else data
    attrs = {"cell_methods": f"area: mean time: {method}"} if method else {}
    write(path, name=name, days=np.repeat(DAYS, parts), data=values.reshape(-1, 3, 4), attrs={**attrs, **spec.pop("attrs", {})}, **spec)
    with netCDF4.Dataset(path, "a") as file:
        begin = np.floor(file["time"][:]) + np.tile(np.arange(parts) / parts, len(DAYS))
        file["time"][:] = begin + 0.5 / parts
        file["time_bnds"][:] = np.stack([begin, begin + 1.0 / parts], axis=1)
    return path


@pytest.mark.parametrize("parts", [2, 4, 8, 24])
@pytest.mark.parametrize(("channel", "method", "extreme"), [(MAX, "maximum", np.max), (MIN, "minimum", np.min)])
def test_the_extreme_of_extremes_is_the_days_exactly(tmp_path, parts, channel, method, extreme):
    data = steps_of(parts)
    data[3, parts // 2, 1, 2] = np.nan
    sub_daily(tmp_path / "a.nc", parts, name=channel.name, method=method, data=data)
    source = open_files("A", [tmp_path / "a.nc"], [channel], aggregate="cell_methods")
    np.testing.assert_array_equal(read_all(source, channel.name), extreme(data, axis=1))
    words = {"maximum": "maxima", "minimum": "minima"}[method]
    assert any(f"daily {words} of {parts} steps a day, {words} (aggregate: cell_methods)" in note for note in source.notes)


def test_blocks_and_chunks_do_not_change_the_result(tmp_path, monkeypatch):
    sub_daily(tmp_path / "a.nc", 24)
    source = open_files("A", [tmp_path / "a.nc"], [MAX], aggregate="cell_methods")
    whole = read_all(source, "tasmax")
    one = source.series["tasmax"]
    for size in (1, 4, 30):
        np.testing.assert_array_equal(np.concatenate([one.read(start, start + size) for start in range(0, 31, size)]), whole)
    monkeypatch.setattr(series_module, "_MEAN_BYTES", 1)
    np.testing.assert_array_equal(read_all(source, "tasmax"), whole)


def test_each_channel_by_its_own_method(tmp_path):
    data = steps_of(4)
    sub_daily(tmp_path / "tas.nc", 4, name="tas", method="mean", data=data)
    sub_daily(tmp_path / "tasmax.nc", 4, data=data)
    sub_daily(tmp_path / "tasmin.nc", 4, name="tasmin", method="minimum", data=data)
    source = open_files("A", [tmp_path], [TAS, MAX, MIN], aggregate="cell_methods")
    for name, expected in (("tas", data.mean(axis=1, dtype="f8").astype("f4")), ("tasmax", data.max(axis=1)), ("tasmin", data.min(axis=1))):
        np.testing.assert_array_equal(read_all(source, name), expected)
    mean = open_files("A", [tmp_path / "tas.nc"], [TAS], aggregate="mean")
    np.testing.assert_array_equal(read_all(mean), read_all(source))


def test_hourly_instantaneous_values_give_extremes_and_coarser_ones_do_not(tmp_path):
    data = steps_of(24)
    sub_daily(tmp_path / "t2m.nc", 24, name="t2m", method="point", data=data)
    source = open_files("A", [tmp_path / "t2m.nc"], [MAX], aggregate="cell_methods", variables={"tasmax": "t2m"})
    np.testing.assert_array_equal(read_all(source, "tasmax"), data.max(axis=1))
    assert any("daily maxima of 24 steps a day, instantaneous values" in note for note in source.notes)
    path = sub_daily(tmp_path / "coarse.nc", 8, name="t2m", method="point")
    text = refused("8 sub-daily steps of it have no daily maximum", [path], [MAX], aggregate="cell_methods", variables={"tasmax": "t2m"})
    assert "time: point" in text and "maxima or hourly instantaneous values" in text


@pytest.mark.parametrize("parts", [4, 24])
@pytest.mark.parametrize(("channel", "method"), [(MAX, "mean"), (MIN, "maximum"), (MAX, "minimum"), (TAS, "maximum")])
def test_steps_that_say_nothing_of_the_days_value_are_refused(tmp_path, parts, channel, method):
    path = sub_daily(tmp_path / "a.nc", parts, name=channel.name, method=method)
    refused(f"{channel.name} has cell_methods 'time: {method}'", [path], [channel], aggregate="cell_methods")


def test_without_cell_methods_the_name_must_say_it(tmp_path):
    path = sub_daily(tmp_path / "a.nc", 4, name="tx", method="")
    source = open_files("A", [path], [MAX], aggregate="cell_methods")
    np.testing.assert_array_equal(read_all(source, "tasmax"), steps_of(4).max(axis=1))
    assert any("values without cell_methods" in note for note in source.notes)
    path = sub_daily(tmp_path / "b.nc", 4, name="t2m", method="")
    refused("tasmax has no cell_methods: 4 sub-daily", [path], [MAX], aggregate="cell_methods", variables={"tasmax": "t2m"})


def test_a_mean_of_maxima_stays_refused(tmp_path):
    path = sub_daily(tmp_path / "a.nc", 4)
    text = refused("tasmax is a daily maximum: a mean of sub-daily steps is something else", [path], [MAX], aggregate="mean")
    assert "aggregate: cell_methods" in text


def test_daily_files_are_read_as_they_are(tmp_path):
    path = write(tmp_path / "a.nc", name="tasmax")
    plain, by_methods = (open_files("A", [path], [MAX], aggregate=how) for how in ("none", "cell_methods"))
    np.testing.assert_array_equal(read_all(plain, "tasmax"), read_all(by_methods, "tasmax"))


def test_a_day_that_is_not_whole_is_named(tmp_path):
    path = sub_daily(tmp_path / "a.nc", 4)
    import xarray as xr

    with xr.open_dataset(path, decode_times=False, mask_and_scale=False) as whole:
        part = whole.load().isel(time=np.delete(np.arange(124), 41))
    part.to_netcdf(tmp_path / "b.nc")
    text = refused("1 day without all 4 steps: 2001-01-11 has 3", [tmp_path / "b.nc"], [MAX], aggregate="cell_methods")
    assert "aggregate: cell_methods, 2001-01-11" in text
