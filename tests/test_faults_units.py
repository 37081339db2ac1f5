"""U01-U07 through the command line: units that differ, lie, or need a constant; packing; fill values that nobody declared."""

from __future__ import annotations

import numpy as np
import pytest
from cf_files import Spec, days_of, field_of
from faults import assert_refused, fault
from opening_world import GRIDS, World, edit, notes, rain

from downscale.cf.units import GRAVITY

HUS = 0.005


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refused(world: World, *words: str) -> str:
    """Refused while opening: the workspace is not even made."""
    return assert_refused(world.prepare(), *words, untouched=world.results)


def refused_reading(world: World, *words: str) -> str:
    """Refused while reading fields: no store appears."""
    text = assert_refused(world.prepare(), *words)
    assert not (world.results / "pairs.zarr").exists()
    return text


def days(world: World) -> np.ndarray:
    return days_of(Spec(**world.spec))


def right(world: World, source: str, name: str = "tas") -> np.ndarray:
    """The true values of a source, (time, lat, lon)."""
    return (rain if name == "pr" else field_of)(days(world), *GRIDS[source])


@fault("U01", "exit 4 with the files of each unit, unless `assume_units` says what all are")
def test_units_that_differ_between_files(world):
    world.put("gcm", "tas", last=20010131)
    world.put("gcm", "tas", "b.nc", first=20010201, units="degC")
    text = refused(world, "tas: unequal units in files of GCM: 'K', 'degC'", "convert the files to one unit")
    assert "'K': tas.nc" in text and "'degC': b.nc" in text
    edit(world.folder / "gcm" / "b.nc", lambda file: file["tas"].setncattr("units", "kelvin"))
    world.check()


@fault("U02", "exit 4 with file, variable and the first day outside the plausible range; `assume_units` overrides and is noted")
def test_units_that_lie(world):
    path = world.put("gcm", "tas", data=right(world, "gcm") - 273.15)
    refused_reading(
        world, "tas holds values from", "plausible are 150 to 350", f"{path}: tas, 2001-01-01 (read as 'K')", "assume_units: {tas:"
    )
    world.source("GCM", "assume_units: {tas: degC}")
    assert "units taken as 'degC', the files say 'K' (assume_units)" in notes(world.check())


@fault("U03", "converted to mm/day through UDUNITS, with a note; amounts without a time and unknown units: exit 4 naming `assume_units`")
@pytest.mark.parametrize(
    ("units", "factor"),
    [
        ("mm/day", 1.0),
        ("kg m-2 d-1", 1.0),
        ("mm s-1", 1 / 86400),
        ("m s-1", 1e-3 / 86400),
        ("m/day", 1e-3),
        ("cm day-1", 0.1),
        ("mm/h", 1 / 24),
    ],
)
def test_precipitation_in_other_units(world, units, factor):
    world.put("rcm", "pr", units=units, data=right(world, "rcm", "pr") * factor)
    assert (f"pr: converted from '{units}' to mm day-1" in notes(world.check())) == (units not in ("mm/day", "kg m-2 d-1"))


@pytest.mark.parametrize(("units", "example"), [("m", "m/day"), ("furlongs", "mm/day"), ("", "mm/day")])
def test_precipitation_in_units_that_mean_nothing(world, units, example):
    path = world.put("rcm", "pr", units=units)
    refused(world, f"units '{units}' of pr cannot be converted to mm day-1", str(path), f"assume_units: {{pr: {example}}}")


def upper(world: World, name: str, level: int, factor: float, units: str, **spec):
    """A second predictor with known values in both sources."""
    for source in ("rcm", "gcm"):
        world.put(source, name, data=right(world, source) * factor, units=units, plev=100.0 * level, **spec)
    world.change("predictors: [{name: tas}]", f"predictors: [{{name: tas}}, {{name: {spec.get('channel', name)}, levels: [{level}]}}]")


@fault("U04", "converted by units: geopotential by 9.80665 m s-2, g/kg; a geopotential said to be in m, per cent for humidity and a "
              "variable whose standard_name is another: exit 4")  # fmt: skip
@pytest.mark.parametrize(
    ("name", "level", "factor", "units"),
    [("zg", 500, 20.0 * GRAVITY, "m2 s-2"), ("zg", 500, 20.0, "gpm"), ("hus", 850, 0.02, "g/kg"), ("hus", 850, 2e-5, "kg kg**-1")],
)
def test_heights_and_humidity_are_converted(world, name, level, factor, units):
    upper(world, name, level, factor, units)
    store = world.check()
    group = store.groups["RCM"]
    got = group.predictors("imperfect", slice(None))[:, store.channels.index(f"{name}{level}")]
    wanted = field_of(group.days, store.coarse.lat[:, 0], store.coarse.lon[0]) * (20.0 if name == "zg" else 2e-5)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert f"converted from '{units}'" in notes(store) or units in ("gpm", "kg kg**-1")


def test_a_geopotential_that_says_metres(world):
    upper(world, "zg", 850, 5.2 * GRAVITY, "m")
    refused_reading(world, "zg850 holds values from", "plausible are", "2001-01-01", "assume_units: {zg:")
    world.source("RCM", "assume_units: {zg: m2 s-2}")
    world.source("GCM", "assume_units: {zg: m2 s-2}")
    world.check()


def test_relative_humidity_is_not_specific(world):
    upper(world, "hus", 850, 0.2, "%")
    refused(world, "units '%' of hus cannot be converted to 1: per cent is what relative humidity has")
    for source in ("rcm", "gcm"):
        world.put(source, "hus", data=right(world, source) * 2e-5, units="1", plev=85000.0, attrs={"standard_name": "relative_humidity"})
    text = refused(world, "hus850: variable 'hus' says that it is relative_humidity, not specific_humidity")
    assert str(world.folder / "gcm" / "hus.nc") in text and str(world.folder / "rcm" / "hus.nc") in text


@fault("U05", "decoded file by file; the pairs are those of unpacked files within half a packing step")
def test_packing_with_another_scale_in_every_file(world, tmp_path_factory):
    plain = world.check()
    packed = World(tmp_path_factory.mktemp("packed"))
    spans = [(20010101, 20010110, 0.004), (20010111, 20010131, 0.01), (20010201, 20010228, 0.002)]
    for source in ("rcm", "gcm"):
        (packed.folder / source / "tas.nc").unlink()
        for number, (first, last, scale) in enumerate(spans):
            attrs = {"scale_factor": scale, "add_offset": 285.0 + number}
            packed.put(source, "tas", f"tas_{number}.nc", first=first, last=last, dtype="i2", fill=-32768, attrs=attrs)
    store = packed.store()
    for kind in ("perfect", "imperfect"):
        one, two = (each.groups["RCM"].predictors(kind, slice(None))[:, 0] for each in (plain, store))
        for first, last, scale in spans:
            inside = (plain.groups["RCM"].days >= first) & (plain.groups["RCM"].days <= last)
            np.testing.assert_allclose(two[inside], one[inside], rtol=0, atol=0.5 * scale + 3e-5)


@fault("U06", "impossible numbers: exit 4 with the first day; `fill_values` reads them as missing, the library's own fill value is missing "
              "anyway, each counted in a note")  # fmt: skip
@pytest.mark.parametrize("value", [1e20, -999.0, -32768.0, 9.96921e36])
def test_fill_values_that_nobody_declared(world, value):
    data = right(world, "gcm")
    data[[4, 9], 1, 1] = value
    path = world.put("gcm", "tas", data=data, fill=None if value != 9.96921e36 else -1.0)
    refused_reading(world, "tas holds values from", f"{path}: tas, 2001-01-05", "fill_values")
    world.source("GCM", f"fill_values: [{value!r}]")
    assert_refused(world.prepare(), "missing values on 2 day(s)", f"{path}: tas, 2001-01-05", "nan_days: drop")
    world.text += "missing: {nan_days: drop}\n"
    store = world.store()
    assert len(store.groups["RCM"].days) - 2 == sum(len(store.groups["RCM"].split(name)) for name in ("train", "validation", "test"))
    assert "values equal to the config's fill_values read as missing" in notes(store)


def test_the_default_fill_value_is_missing_anyway(world):
    data = right(world, "gcm")
    data[4, 1, 1] = 9.969209968386869e36
    world.put("gcm", "tas", data=data, fill=None)
    world.text += "missing: {nan_days: drop}\n"
    assert "values of the undeclared netCDF default fill value read as missing" in notes(world.store())


@fault("U07", "negative rates down to -1e-6 kg m-2 s-1 become 0, counted in a note; below that exit 4 with the day")
def test_negative_precipitation(world):
    data = right(world, "rcm", "pr") / 86400.0
    data[3] = -1e-9
    path = world.put("rcm", "pr", data=data)
    store = world.store()
    assert "negligible negative values set to 0" in notes(store)
    target = store.groups["RCM"].target(np.arange(59))
    assert target.min() == 0.0 and (target[3] == 0.0).all() and target[4].min() > 0.0
    data[6] = -1e-5
    path = world.put("rcm", "pr", data=data)
    world.text = world.text.replace("workspace: results", "workspace: other")
    text = assert_refused(world.prepare(), "pr holds values from -0.864", "plausible are 0 to 2000", f"{path}: pr, 2001-01-07")
    assert not (world.folder / "other" / "pairs.zarr").exists() and "kg m-2 s-1" in text
