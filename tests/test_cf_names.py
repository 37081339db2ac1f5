from __future__ import annotations

import pytest
from cf_files import write, write_rotated

from downscale.cf.catalogue import scan
from downscale.cf.names import find, find_static
from downscale.errors import InputDataError
from downscale.variables import Channel

LEVELS = ("time", "plev", "lat", "lon")


def header(path, **changes):
    return scan([write(path, **changes)])[0]


@pytest.mark.parametrize(
    ("channel", "changes", "wanted"),
    [
        (Channel("tas"), {"name": "tas"}, ("tas", None)),
        (Channel("tas"), {"name": "tg"}, ("tg", None)),
        (Channel("tas"), {"name": "T2", "height": 2.0, "attrs": {"standard_name": "air_temperature"}}, ("T2", None)),
        (Channel("tasmax"), {"name": "TX", "attrs": {"standard_name": "air_temperature", "cell_methods": "time: maximum"}}, ("TX", None)),
        (Channel("uas"), {"name": "u10", "height": 10.0, "attrs": {"standard_name": "eastward_wind"}}, ("u10", None)),
        (Channel("pr"), {"name": "prec", "attrs": {"standard_name": "lwe_precipitation_rate"}}, ("prec", None)),
        (Channel("ta", 850), {"name": "ta850"}, ("ta850", None)),
        (Channel("ta", 850), {"name": "ta_850"}, ("ta_850", None)),
        (Channel("hus", 850), {"name": "q850"}, ("q850", None)),
        (Channel("ta", 850), {"name": "ta", "plev": 85000.0}, ("ta", None)),
        (Channel("ta", 500), {"name": "ta", "plev": (85000.0, 50000.0), "dims": LEVELS}, ("ta", 1)),
        (Channel("ta", 500), {"name": "T", "plev": (850.0, 500.0), "plev_units": "millibar", "dims": LEVELS}, ("T", 1)),
        (Channel("zg", 500), {"name": "phi", "plev": 5e4, "attrs": {"standard_name": "geopotential"}}, ("phi", None)),
    ],
)
def test_channels_are_found_under_their_names(tmp_path, channel, changes, wanted):
    match = find(header(tmp_path / "f.nc", **changes), channel)
    assert match is not None and (match.name, match.level_index) == wanted


@pytest.mark.parametrize(
    ("channel", "changes"),
    [
        (Channel("tas"), {"name": "ta", "plev": 85000.0, "attrs": {"standard_name": "air_temperature"}}),
        (Channel("tas"), {"name": "temp", "plev": 85000.0, "attrs": {"standard_name": "air_temperature"}}),
        (Channel("tas"), {"name": "tasmax", "attrs": {"standard_name": "air_temperature", "cell_methods": "time: maximum"}}),
        (Channel("tas"), {"name": "TX", "attrs": {"standard_name": "air_temperature", "cell_methods": "time: maximum"}}),
        (Channel("tasmax"), {"name": "T2", "attrs": {"standard_name": "air_temperature"}}),
        (Channel("tas"), {"name": "T100", "height": 100.0, "attrs": {"standard_name": "air_temperature"}}),
        (Channel("uas"), {"name": "u", "attrs": {"standard_name": "eastward_wind"}}),
        (Channel("ta", 700), {"name": "ta850", "attrs": {"standard_name": "air_temperature"}}),
        (Channel("ta", 700), {"name": "ta", "plev": 85000.0}),
        (Channel("ta", 700), {"name": "ta", "plev": (85000.0, 50000.0), "dims": LEVELS}),
        (Channel("ta", 850), {"name": "ta"}),
    ],
)
def test_what_only_looks_alike_is_not_taken(tmp_path, channel, changes):
    assert find(header(tmp_path / "f.nc", **changes), channel) is None


def test_two_variables_that_fit_are_an_error(tmp_path):
    import netCDF4

    path = write(tmp_path / "f.nc")
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("ta2m", "f4", ("time", "lat", "lon")).setncatts({"standard_name": "air_temperature", "units": "K"})
    with pytest.raises(InputDataError, match=r"ambiguous.*tas, ta2m") as caught:
        find(scan([path])[0], Channel("tas"))
    assert "variables: {tas: tas}" in caught.value.hint
    assert find(scan([path])[0], Channel("tas"), "ta2m").name == "ta2m"


def test_the_config_may_name_variables_and_levels(tmp_path):
    one = header(tmp_path / "a.nc", name="z_500")
    assert find(one, Channel("zg", 500), "z_{level}").name == "z_500"
    assert find(one, Channel("zg", 700), "z_{level}") is None
    assert find(one, Channel("zg", 500), "z_500").name == "z_500"
    other = header(tmp_path / "b.nc", name="GEO", plev=(85000.0, 50000.0), dims=LEVELS)
    assert find(other, Channel("zg", 500), "GEO").level_index == 1
    assert find(other, Channel("zg", 300), "GEO") is None


def test_a_name_with_a_level_is_trusted_over_a_contradicting_coordinate(tmp_path):
    match = find(header(tmp_path / "f.nc", name="zg700", plev=85000.0), Channel("zg", 700))
    assert match is not None and "trusted" in match.note


def test_fixed_fields_are_found_by_name_and_standard_name(tmp_path):
    first = scan([write_rotated(tmp_path / "a.nc", name="orog", fixed=True)])[0]
    assert find_static(first, "orog") == "orog"
    second = scan([write_rotated(tmp_path / "b.nc", name="HSURF", fixed=True, standard_name="surface_altitude")])[0]
    assert find_static(second, "orog") == "HSURF"
    assert find_static(second, "sftlf") is None
    assert find_static(scan([write(tmp_path / "c.nc", name="orog")])[0], "orog") is None


def test_the_nearest_level_is_taken_and_an_inexact_one_noted(tmp_path):
    one = header(tmp_path / "a.nc", name="ta", plev=(850.3, 850.0, 499.6), plev_units="hPa", dims=LEVELS)
    assert find(one, Channel("ta", 850)).level_index == 1
    match = find(one, Channel("ta", 500))
    assert match.level_index == 2 and match.note == "level 499.6 hPa is taken as 500 hPa"
    two = header(tmp_path / "b.nc", name="ta", plev=(85000.0, 50000.0), plev_units="", dims=LEVELS)
    assert "levels 'plev' without units: taken as Pa" in find(two, Channel("ta", 850)).note


def test_a_variable_that_says_it_is_another_is_refused(tmp_path):
    one = header(tmp_path / "a.nc", name="uas", attrs={"standard_name": "northward_wind"})
    with pytest.raises(InputDataError, match="'uas' says that it is northward_wind, not eastward_wind"):
        find(one, Channel("uas"))
    two = header(tmp_path / "b.nc", name="pr", attrs={"standard_name": "rainfall_flux"})
    assert find(two, Channel("pr")).note == "pr is taken although its standard_name is rainfall_flux"
