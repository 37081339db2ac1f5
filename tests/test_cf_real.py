"""Real files that nobody on this project wrote; skipped where ../shared/data is absent."""

from __future__ import annotations

import numpy as np
import pytest

from downscale.cf.open import open_files, open_grid
from downscale.errors import InputDataError
from downscale.variables import Channel

RACMO = "cordex_eur44_racmo_iberia/*.nc"
CNRM = "gcm_cnrm_cm5_iberia/*.nc"


def block(path, channel, count=400, **options):
    source = open_files("A", [path], [channel], gaps="skip", **options)
    return source, source.series[channel.name].read(0, count)


def test_racmo_winters(shared_data):
    source = open_files(
        "RACMO", [shared_data / RACMO], [Channel("tas"), Channel("pr")], gaps="skip", assume_units={"pr": "mm/day"}, role="rcm"
    )
    assert len(source.days) == 1805 and (source.days[0], source.days[-1]) == (19821201, 20020228)
    tas = source.series["tas"].read(0, 1805)
    assert tas.shape == (1805, 28, 30) and tas.min() > 255 and tas.max() < 300
    assert 2.0 < source.series["pr"].read(0, 1805).mean() < 2.5
    notes = "\n".join(source.notes)
    for words in (
        "19 gaps, 5225 days: 1983-03-01 to 1983-11-30",
        "converted from 'Celsius' to K",
        "pr: units taken as 'mm/day', the files say 'mm'",
    ):
        assert words in notes
    assert source.series["tas"].coordinates["crs"].attrs["grid_mapping_name"] == "rotated_latitude_longitude"


def test_racmo_needs_its_units_and_its_gaps_named(shared_data):
    with pytest.raises(InputDataError, match="sum over an unknown time"):
        open_files("RACMO", [shared_data / RACMO], [Channel("pr")], gaps="skip")
    with pytest.raises(InputDataError, match="tas lacks days: 19 gaps"):
        open_files("RACMO", [shared_data / RACMO], [Channel("tas")])


def test_cnrm_winters_with_levels_from_a_scalar_coordinate(shared_data):
    channels = [Channel("tas"), Channel("pr"), Channel("psl"), Channel("ta", 850), Channel("hus", 850)]
    source = open_files("CNRM", [shared_data / CNRM], channels, gaps="skip")
    rcm = open_files("RACMO", [shared_data / RACMO], [Channel("tas")], gaps="skip")
    np.testing.assert_array_equal(source.days, rcm.days)
    for name, low, high in (("tas", 255, 300), ("pr", 0, 100), ("psl", 9.5e4, 1.06e5), ("ta850", 250, 295), ("hus850", 0, 0.012)):
        fields = source.series[name].read(0, 1805)
        assert fields.shape == (1805, 8, 11) and low <= fields.min() and fields.max() <= high
    with pytest.raises(InputDataError, match="ta700 not found") as caught:
        open_files("CNRM", [shared_data / CNRM], [Channel("ta", 700)], gaps="skip")
    assert any("at 850 hPa" in line for line in caught.value.findings)


@pytest.mark.parametrize(
    ("name", "channel", "low", "high"),
    [
        ("NCEP_T850.nc", Channel("ta", 850), 240, 310),
        ("NCEP_Q850.nc", Channel("hus", 850), 0, 0.02),
        ("NCEP_Z500.nc", Channel("zg", 500), 4900, 6000),
    ],
)
def test_ncep_with_its_own_names_levels_first_and_geopotential(shared_data, name, channel, low, high):
    source, fields = block(shared_data / "ncep_eobs_iberia/predictors" / name, channel)
    assert len(source.days) == 16071 and fields.shape == (400, 6, 9)
    assert low <= fields.min() and fields.max() <= high
    assert any("transposed from (level, time, lat, lon)" in note for note in source.notes)


def test_slp_under_another_name_needs_the_config(shared_data):
    path = shared_data / "ncep_eobs_iberia/predictors/NCEP_SLPd.nc"
    with pytest.raises(InputDataError, match="psl not found") as caught:
        open_files("A", [path], [Channel("psl")])
    assert any("SLPd" in line for line in caught.value.findings)
    assert block(path, Channel("psl"), variables={"psl": "SLPd"})[1].mean() > 1e5


def test_eobs_names_and_sea(shared_data):
    folder = shared_data / "ncep_eobs_iberia/target"
    _, tas = block(folder / "tg_EOBS-v14_0.50deg_DJF_iberia.nc", Channel("tas"))
    assert 0.35 < np.isnan(tas).mean() < 0.45
    _, pr = block(folder / "rr_EOBS-v14_0.50deg_DJF_iberia.nc", Channel("pr"), assume_units={"pr": "mm/day"})
    assert np.nanmin(pr) == 0.0


@pytest.mark.parametrize(
    ("pattern", "channel", "calendar", "days"),
    [
        ("gcm_files/ta_day_BCC*", Channel("ta", 850), "noleap", 7300),
        ("gcm_files/ta_day_IITM*", Channel("ta", 850), "julian", 1827),
        ("gcm_files/ta_day_KACE*", Channel("ta", 850), "360_day", 5400),
        ("gcm_files/ta_day_MPI*", Channel("ta", 850), "standard", 7305),
        ("gcm_files/tas_day_MIROC6*", Channel("tas"), "standard", 1),
        ("gcm_files/tasmin_day_HadGEM3*", Channel("tasmin"), "360_day", 420),
        ("gcm_files/tasmax_day_HadGEM2*", Channel("tasmax"), "360_day", 360),
        ("gcm_files/pr_day_HadGEM2*", Channel("pr"), "360_day", 360),
        ("gcm_files/pr_day_EC-Earth3*", Channel("pr"), "standard", 365),
        ("gcm_files/tiny_gcm*", Channel("tasmin"), "360_day", 3601),
        ("cordex_files/pr_NAM-22*", Channel("pr"), "noleap", 3650),
        ("cordex_files/tas_AFR-22*", Channel("tas"), "standard", 3653),
        ("cordex_files/zg500_EUR-11*", Channel("zg", 500), "standard", 3653),
        ("cordex_files/tas_ANT-44*", Channel("tas"), "standard", 1),
        ("cordex_files/tasmax_NAM-44*", Channel("tasmax"), "noleap", 1),
        ("cordex_files/test1.nc", Channel("tasmin"), "standard", 365),
        ("cordex_files/X_EUC12*", Channel("zg", 700), "standard", 1),
    ],
)
def test_files_of_many_models_open_without_gaps(shared_data, pattern, channel, calendar, days):
    source = open_files("A", [shared_data / pattern], [channel])
    assert (source.calendar, len(source.days)) == (calendar, days)
    fields = source.series[channel.name].read(max(0, days - 50), days)
    assert np.isfinite(fields).any() and np.nanmax(fields) > np.nanmin(fields)


@pytest.mark.parametrize(
    ("name", "channel", "says"),
    [
        ("tas_EUR-11_MPI-M-MPI-ESM-LR_rcp85_r1i1p1_KNMI-RACMO22E_v1_mon_209101.nc", Channel("tas"), "not daily: each step spans 31 days"),
        ("test_lcc.nc", Channel("tas"), "not daily"),
        ("alps1.nc", Channel("tas"), "not daily"),
        ("template_pr_ALPS.nc", Channel("pr"), "attribute is missing or empty"),
    ],
)
def test_files_that_are_no_daily_fields_are_refused(shared_data, name, channel, says):
    with pytest.raises(InputDataError, match=says):
        open_files("A", [shared_data / "cordex_files" / name], [channel])


def test_surface_pressure_called_psl_is_refused_when_read(shared_data):
    source = open_files("A", [shared_data / "cordex_files/X_EUC12_fullvar_smth3_aero_2000-01-01.nc"], [Channel("psl")])
    with pytest.raises(InputDataError, match="values from 58470"):
        source.series["psl"].read(0, 1)


def test_undeclared_fill_below_ground_is_missing_and_counted(shared_data):
    path = next((shared_data / "gcm_files").glob("ta_day_KACE*"))
    source, fields = block(path, Channel("ta", 1000))
    assert np.isnan(fields).any() and np.nanmax(fields) < 330
    assert any("undeclared netCDF default fill value read as missing" in note for note in source.notes)


def test_fixed_fields_of_real_models(shared_data):
    folder = shared_data / "cordex_files"
    source = open_files(
        "A", [folder / "HSURF_regional_model_0.44deg.nc", folder / "FR-LAND_regional_model_0.44deg.nc"], [], statics=["orog", "sftlf"]
    )
    orog, sftlf = (source.statics([name])[name][0] for name in ("orog", "sftlf"))
    assert orog.shape == sftlf.shape == (221, 214) and orog.max() > 2000 and sftlf.max() == 100.0
    eur11 = open_files("A", [next(folder.glob("orog_EUR-11*"))], [], statics=["orog"]).statics(["orog"])["orog"]
    assert eur11[0].shape == (412, 424) and eur11[1]["lat_vertices"].shape == (412, 424, 4)


def test_every_file_has_a_grid(shared_data):
    paths = sorted(shared_data.glob("**/*.nc"))
    assert len(paths) >= 40
    for path in paths:
        coordinates = open_grid(path)
        assert np.isfinite(coordinates["lat"]).all(), path
        if coordinates["lat"].ndim == 1:
            assert (np.diff(coordinates["lat"]) > 0).all() and (np.diff(coordinates["lon"]) > 0).all(), path


def test_the_pole_and_the_date_line_inside(shared_data):
    coordinates = open_grid(next((shared_data / "cordex_files").glob("tas_ANT-44*")))
    assert coordinates["lat"].shape == (97, 125) and coordinates["lat"].min() < -89 and "crs" in coordinates
