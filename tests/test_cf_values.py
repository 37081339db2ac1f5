from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cf_files import Spec as FileSpec
from cf_files import days_of, field_of, read_all, refused, write

from downscale.cf.fields import accumulates, plausible_range
from downscale.cf.open import open_files
from downscale.errors import InputDataError
from downscale.variables import Channel

TAS, PR = Channel("tas"), Channel("pr")
LAT, LON = (40.0, 42.0, 44.0), (0.0, 2.0, 4.0, 6.0)


@pytest.mark.parametrize(("units", "factor", "offset"), [("degC", 1.0, -273.15), ("Celsius", 1.0, -273.15), ("K", 1.0, 0.0)])
def test_units_are_converted_and_noted(tmp_path, units, factor, offset):
    days = days_of(FileSpec())
    source = open_files("A", [write(tmp_path / "a.nc", units=units, data=field_of(days, LAT, LON) * factor + offset)], [TAS])
    np.testing.assert_allclose(read_all(source), field_of(days, LAT, LON), atol=3e-5)
    assert any("converted" in note for note in source.notes) == (units != "K")


def test_a_flux_becomes_mm_a_day_and_negligible_negatives_zero(tmp_path):
    days = days_of(FileSpec())
    flux = np.full((31, 3, 4), 2.0 / 86400.0)
    flux[0, 0, 0], flux[3, 1, 1] = -1e-9, 0.0
    source = open_files("A", [write(tmp_path / "a.nc", name="pr", units="kg m-2 s-1", data=flux, days=days)], [PR])
    fields = read_all(source, "pr")
    assert fields[0, 0, 0] == 0.0 and fields.min() == 0.0
    np.testing.assert_allclose(fields[1], 2.0, rtol=1e-6)
    assert "A: pr: 1 negligible negative values set to 0" in source.notes


def test_negative_precipitation_is_refused(tmp_path):
    flux = np.full((31, 3, 4), 2.0 / 86400.0)
    flux[6, 0, 0] = -1e-4
    path = write(tmp_path / "a.nc", name="pr", units="kg m-2 s-1", data=flux)
    source = open_files("A", [path], [PR])
    with pytest.raises(InputDataError, match=r"values from -8\.64") as caught:
        read_all(source, "pr")
    assert "2001-01-07" in caught.value.where and str(path) in caught.value.where


def test_units_that_lie_are_refused_and_can_be_overridden(tmp_path):
    days = days_of(FileSpec())
    path = write(tmp_path / "a.nc", units="K", data=field_of(days, LAT, LON) - 273.15)
    with pytest.raises(InputDataError, match="plausible are 150 to 350") as caught:
        read_all(open_files("A", [path], [TAS]))
    assert "assume_units: {tas:" in caught.value.hint and "read as 'K'" in caught.value.where
    source = open_files("A", [path], [TAS], assume_units={"tas": "degC"})
    np.testing.assert_allclose(read_all(source), field_of(days, LAT, LON), atol=3e-5)
    assert any("taken as 'degC', the files say 'K' (assume_units)" in note for note in source.notes)


def test_a_bare_sum_needs_assume_units(tmp_path):
    path = write(tmp_path / "a.nc", name="pr", units="mm")
    text = refused("sum over an unknown time", [path], [PR])
    assert "assume_units: {pr: mm/day}" in text and str(path) in text
    assert read_all(open_files("A", [path], [PR], assume_units={"pr": "mm/day"}), "pr").min() > 0


def test_unequal_units_in_a_series_are_refused_unless_assumed(tmp_path):
    paths = [write(tmp_path / "a.nc"), write(tmp_path / "b.nc", first=20010201, last=20010228, units="degC")]
    text = refused("unequal units in files of A: 'K', 'degC'", paths, [TAS])
    assert "'degC': b.nc" in text
    assert len(open_files("A", paths, [TAS], assume_units={"tas": "K"}).days) == 59
    write(paths[1], first=20010201, last=20010228, units="kelvin")
    assert len(open_files("A", paths, [TAS]).days) == 59


@pytest.mark.parametrize("value", [1e20, -999.0, -32768.0, np.inf])
def test_undeclared_fill_values_are_refused_with_the_day(tmp_path, value):
    days = days_of(FileSpec())
    data = field_of(days, LAT, LON)
    data[4, 1, 2] = value
    path = write(tmp_path / "a.nc", data=data, fill=-1.0)
    with pytest.raises(InputDataError, match="plausible") as caught:
        read_all(open_files("A", [path], [TAS]))
    assert "2001-01-05" in caught.value.where and "_FillValue" in caught.value.hint


def test_declared_and_default_fill_values_are_missing(tmp_path):
    days = days_of(FileSpec())
    data = field_of(days, LAT, LON)
    data[4, 1, 2], data[5, 0, 0] = 1e20, np.nan
    fields = read_all(open_files("A", [write(tmp_path / "a.nc", data=data)], [TAS]))
    assert np.flatnonzero(np.isnan(fields)).tolist() == [4 * 12 + 6, 5 * 12]
    data[4, 1, 2], data[5, 0, 0] = netCDF4.default_fillvals["f4"], 280.0
    source = open_files("A", [write(tmp_path / "b.nc", data=data, fill=None)], [TAS])
    assert np.flatnonzero(np.isnan(read_all(source))).tolist() == [4 * 12 + 6]
    assert any("1 values of the undeclared netCDF default fill value" in note for note in source.notes)


def test_packing_is_decoded_file_by_file(tmp_path):
    paths = []
    for index, scale in enumerate((0.01, 0.02)):
        days = days_of(FileSpec(first=20010101 + 100 * index, last=20010128 + 100 * index))
        data = field_of(days, LAT, LON)
        packed = np.ma.array(data, mask=np.zeros(data.shape, bool))
        packed[2, 0, 0] = np.ma.masked
        path = tmp_path / f"{index}.nc"
        write(path, days=days, data=packed, dtype="i2", fill=-32768, attrs={"scale_factor": scale, "add_offset": 280.0})
        paths.append(path)
    source = open_files("A", paths, [TAS], gaps="skip")
    fields = read_all(source)
    assert np.isnan(fields).sum() == 2 and np.isnan(fields[2, 0, 0]) and np.isnan(fields[30, 0, 0])
    np.testing.assert_allclose(fields, np.where(np.isnan(fields), np.nan, field_of(source.days, LAT, LON)), atol=0.0101)


def test_a_damaged_chunk_is_named_with_file_variable_and_days(tmp_path):
    path = tmp_path / "a.nc"
    rng = np.random.default_rng(1)
    with netCDF4.Dataset(write(path), "a") as file:
        copy = file.createVariable("psl", "f4", ("time", "lat", "lon"), zlib=True, fletcher32=True, chunksizes=(31, 3, 4))
        copy.units = "Pa"
        copy[:] = 1e5 + rng.normal(size=(31, 3, 4))
        file.sync()
    data = bytearray(path.read_bytes())
    data[-200:-150] = bytes(50)
    path.write_bytes(data)
    source = open_files("A", [path], [Channel("psl")])
    with pytest.raises(InputDataError, match="psl cannot be read") as caught:
        source.series["psl"].read(0, 31)
    assert str(path) in caught.value.where and "2001-01-01 to 2001-01-31" in caught.value.where


@pytest.mark.parametrize(("level", "height"), [(1000, 111), (850, 1457), (500, 5574), (200, 11784), (50, 20576)])
def test_plausible_heights_lie_around_the_standard_atmosphere(level, height):
    low, high = plausible_range(Channel("zg", level))
    assert abs((low + high) / 2 - height) < 3 and low < height - 1000 and high > height + 1000
    assert level >= 1000 or high < height * 9.80665
    assert plausible_range(Channel("ta", level)) == (130.0, 350.0)


def test_what_only_grows_is_told_from_weather():
    rng = np.random.default_rng(4)
    rain = rng.gamma(0.5, 8.0, size=(20, 3, 4)).astype(np.float32)
    assert accumulates(np.cumsum(rain, axis=0, dtype=np.float32)) and not accumulates(rain)
    assert not accumulates(np.zeros((20, 3, 4), np.float32)) and not accumulates(rain[:1]) and not accumulates(rain[:0])
    even = np.arange(20.0, dtype=np.float32)[:, None, None] + np.ones((20, 3, 4), np.float32)
    assert not accumulates(even)
    sea = np.cumsum(rain, axis=0, dtype=np.float32)
    sea[:, 0, 0] = np.nan
    assert accumulates(sea)
