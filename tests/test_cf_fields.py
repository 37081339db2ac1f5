"""Stored numbers to values, and how much memory that takes."""

from __future__ import annotations

import tracemalloc

import netCDF4
import numpy as np
import pytest
from cf_files import Spec as FileSpec
from cf_files import days_of, field_of, write

from downscale.cf import series
from downscale.cf.fields import Decoder
from downscale.cf.header import VariableHeader
from downscale.cf.open import open_files
from downscale.cf.units import Conversion
from downscale.variables import Channel

TAS = Channel("tas")
SAME, CELSIUS = Conversion(1.0, 0.0, "K", "K"), Conversion(1.0, 273.15, "degC", "K")
FLUX = Conversion(86400.0, 0.0, "kg m-2 s-1", "mm day-1")


def decoder(dtype: str, conversion: Conversion = SAME, fill_values=(), **attrs) -> Decoder:
    kind, as_they_are = np.dtype(dtype), ("scale_factor", "add_offset", "_Unsigned")
    typed = {name: value if name in as_they_are else kind.type(value) for name, value in attrs.items()}
    return Decoder.of(VariableHeader("tas", ("time", "lat", "lon"), (1, 1, 1), dtype, typed), conversion, fill_values)


@pytest.mark.parametrize("conversion", [SAME, CELSIUS, FLUX], ids=["same", "celsius", "flux"])
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i2", "u1", "i4"])
def test_values_are_rounded_once(dtype, conversion):
    rng = np.random.default_rng(1)
    raw = (rng.normal(100.0, 30.0, (2, 50, 60)).clip(0, 255)).astype(dtype)
    packing = {"scale_factor": 0.01, "add_offset": 20.0} if np.dtype(dtype).kind in "iu" else {}
    exact = (raw.astype("f8") * packing.get("scale_factor", 1.0) + packing.get("add_offset", 0.0)) * conversion.scale + conversion.offset
    values, missing = decoder(dtype, conversion, **packing).decode(raw)
    assert values.dtype == np.float32 and (missing.undeclared, missing.extra) == (0, 0)
    np.testing.assert_array_max_ulp(values, exact.astype(np.float32), 1)
    if conversion is not FLUX and dtype in ("f4", "f8", ">f4"):
        np.testing.assert_array_equal(values, exact.astype(np.float32))


def test_the_raw_numbers_are_left_alone_unless_they_are_the_values():
    raw = np.array([[1.0, 1e20, np.nan]], np.float32)
    before = raw.copy()
    one = decoder("f4", CELSIUS, _FillValue=1e20)
    values, _ = one.decode(raw)
    np.testing.assert_array_equal(raw, before)
    one.decode_into(raw, raw)
    np.testing.assert_array_equal(raw, values)
    np.testing.assert_array_equal(values, np.array([[274.15, np.nan, np.nan]], np.float32))


def test_the_default_fill_of_packed_integers():
    raw = np.array([-32767, -32766, 100], "i2")
    values, missing = decoder("i2", scale_factor=0.01, add_offset=280.0).decode(raw)
    np.testing.assert_array_equal(np.isnan(values), [True, False, False])
    assert missing.undeclared == 1
    for attrs in ({"scale_factor": 0.01, "_FillValue": 100}, {}):  # declared otherwise, or counts and not packed numbers
        assert decoder("i2", **attrs).decode(raw)[1].undeclared == 0


def test_unsigned_bytes():
    values, _ = decoder("i1", scale_factor=2.0, _Unsigned="true", _FillValue=-1).decode(np.array([-2, -1, 0, 127], "i1"))
    np.testing.assert_array_equal(values, np.array([508.0, np.nan, 0.0, 254.0], np.float32))


@pytest.mark.parametrize(
    ("dtype", "given", "stored", "attrs"),
    [
        ("f4", -999.9, np.float32(-999.9), {}),
        ("f4", 1e20, np.nextafter(np.float32(1e20), np.float32(2e20)), {}),
        ("f8", -999.9, float(np.float32(-999.9)), {}),
        ("i2", -999, -999, {"scale_factor": 0.1, "add_offset": 200.0}),
        ("i2", -999.0, -11990, {"scale_factor": 0.1, "add_offset": 200.0}),
        ("i2", -999.02, -11990, {"scale_factor": 0.1, "add_offset": 200.0}),
        ("f4", -999.0, np.float32(-11990.0), {"scale_factor": 0.1, "add_offset": 200.0}),
    ],
)
def test_fill_values_of_the_config_are_missing_and_counted(dtype, given, stored, attrs):
    raw = np.array([[[100, stored, 101], [stored, 102, 103]]], dtype)
    values, missing = decoder(dtype, fill_values=[given], **attrs).decode(raw)
    assert np.flatnonzero(np.isnan(values)).tolist() == [1, 3] and missing.extra == 2


def test_what_no_stored_number_can_be_is_no_fill_value():
    raw = np.array([[-32768, 0, 32767]], "i2")
    values, missing = decoder("i2", fill_values=[1e20, -999.5]).decode(raw)
    assert missing.extra == 0 and np.isfinite(values).all()


def test_a_fill_value_that_is_declared_too_is_not_counted():
    raw = np.array([1e20, 1.0, netCDF4.default_fillvals["f4"]], np.float32)
    _, missing = decoder("f4", fill_values=[1e20], _FillValue=1e20).decode(raw)
    assert missing.extra == 0
    _, missing = decoder("f4", fill_values=[1e20]).decode(raw)
    assert (missing.extra, missing.undeclared) == (1, 1)


def test_the_size_of_blocks_does_not_matter(tmp_path, monkeypatch):
    days = days_of(FileSpec(last=20010331))
    data = np.ma.masked_less(field_of(days, (44.0, 42.0, 40.0), (0.0, 2.0, 4.0, 6.0)), 286.0)
    path = write(tmp_path / "a.nc", days=days, data=data, lat=(44.0, 42.0, 40.0))
    whole = open_files("A", [path], [TAS]).series["tas"].read(0, 90)
    assert np.isnan(whole).any() and np.isfinite(whole).any()
    monkeypatch.setattr(series, "_READ_BYTES", 150)
    monkeypatch.setattr(series, "CACHED_VALUES", 25)
    again = open_files("A", [path], [TAS]).series["tas"]
    np.testing.assert_array_equal(np.concatenate([again.read(0, 7), again.read(7, 90)]), whole)


@pytest.mark.parametrize(("dtype", "attrs"), [("f4", {}), ("i2", {"scale_factor": 0.01, "add_offset": 280.0})])
def test_reading_holds_its_block_and_little_more(tmp_path, dtype, attrs):
    lat, lon = np.linspace(30, 60, 300), np.linspace(0, 40, 400)
    path = write(tmp_path / "a.nc", last=20010331, lat=lat, lon=lon, dtype=dtype, fill=None, attrs=attrs, sizes={})
    (one,) = open_files("A", [path], [TAS]).series.values()
    block = 90 * 300 * 400 * 4
    tracemalloc.start()
    fields = one.read(0, 90)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fields.nbytes == block and peak < block + 3 * 2**23
