"""Real files that nobody on this project wrote, every one with what is expected of it; skipped where ../shared/data is absent."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from conftest import run_cli
from faults import assert_refused
from real_files import (
    AFR22,
    ANTARCTICA,
    CNRM,
    DOURY,
    EOBS,
    EXPECTED,
    HADGEM3,
    KACE,
    MIROC6,
    NAM22,
    NAM44,
    NCEP,
    OROGRAPHY,
    OWN,
    RACMO,
    RACMO_EUR11,
    TAS,
    TASMIN,
    WRF,
    Fixed,
    Opens,
    Refused,
)

from downscale.cf.open import open_files, open_grid
from downscale.errors import InputDataError
from downscale.grid.conservative import conservative_weights
from downscale.grid.grid import Grid, lonlat_grid, require_same_grid
from downscale.grid.interpolate import bilinear_weights
from downscale.variables import Channel


def of_kind(kind):
    return [pytest.param(path, id=path.rsplit("/", 1)[1][:48]) for path, expected in EXPECTED.items() if isinstance(expected, kind)]


def grid_of(path) -> Grid:
    return Grid.from_dataset(open_grid(path))


def test_every_file_has_an_expectation(shared_data):
    assert sorted(EXPECTED) == sorted(str(path.relative_to(shared_data)) for path in shared_data.glob("**/*.nc"))


@pytest.mark.parametrize("path", of_kind(Opens))
def test_it_opens(shared_data, path):
    expected = EXPECTED[path]
    name = expected.channel.name
    source = open_files("A", [shared_data / path], [expected.channel], gaps="skip", **expected.options)
    fields = source.series[name].read(0, len(source.days))
    source.close()
    assert (source.calendar, source.days[0], source.days[-1]) == (expected.calendar, expected.first, expected.last)
    assert fields.shape == expected.shape and fields.dtype == np.float32
    np.testing.assert_allclose((np.nanmin(fields), np.nanmax(fields)), expected.range, rtol=1e-5, atol=1e-9)
    assert np.isnan(fields).mean() == pytest.approx(expected.missing, abs=1e-4)
    notes = "\n".join(source.notes)
    for words in expected.says:
        assert words in notes, (words, notes)
    assert [note for note in source.notes if not any(words in note for words in expected.says)] == []


@pytest.mark.parametrize("path", of_kind(Fixed))
def test_it_opens_as_a_fixed_field(shared_data, path):
    expected = EXPECTED[path]
    values, coordinates = open_files("A", [shared_data / path], [], statics=[expected.name]).statics([expected.name])[expected.name]
    assert values.shape == expected.shape == Grid.from_dataset(coordinates).shape
    np.testing.assert_allclose((values.min(), values.max()), expected.range, rtol=1e-6)


@pytest.mark.parametrize("path", of_kind(Refused))
def test_it_is_refused(shared_data, path):
    expected = EXPECTED[path]
    series = None
    if expected.when_read:
        series = open_files("A", [shared_data / path], [expected.channel]).series[expected.channel.name]
    with pytest.raises(InputDataError, match=expected.message) as caught:
        series.read(0, 1) if series else open_files("A", [shared_data / path], [expected.channel])
    for words in (path, *expected.says):
        assert words in str(caught.value)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.rsplit("/", 1)[1][:48]) for path in EXPECTED])
def test_its_grid_is_found(shared_data, path):
    grid = grid_of(shared_data / path)
    expected = EXPECTED[path]
    if not isinstance(expected, Refused):
        assert grid.shape == expected.shape[-2:]
    assert np.isfinite(grid.lat).all() and np.isfinite(grid.lon).all() and grid.origin.endswith(path)
    if grid.is_latlon:
        assert (np.diff(grid.lat, axis=0) > 0).all() and (np.diff(grid.lon, axis=1) > 0).all() and grid.areas().min() > 0
    elif "template" in path:
        assert grid.lat_corners is None and "corners are unknown" in grid.notes[0]
    else:
        assert grid.crs is not None and grid.areas().min() > 0
        again = bilinear_weights(grid, grid).apply(grid.lat)
        np.testing.assert_allclose(again, grid.lat, atol=1e-3)


# --- files that belong together -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "periods", "channel", "days"),
    [
        (NAM22, ("20510101-20551231", "20560101-20601231"), Channel("pr"), 3650),
        (AFR22, ("19960101-20001231", "20010101-20051231"), TAS, 3653),
        (WRF, ("20710101-20751231", "20760101-20801231"), Channel("zg", 500), 3653),
        (HADGEM3, ("19601101-19601230", "19610101-19611230"), TASMIN, 420),
    ],
    ids=["NAM-22", "AFR-22", "zg500", "HadGEM3"],
)
def test_two_files_are_one_series(shared_data, name, periods, channel, days):
    paths = [shared_data / name(period) for period in periods]
    parts = [open_files("A", [path], [channel]).series[channel.name] for path in paths]
    whole = open_files("A", paths[::-1], [channel])
    np.testing.assert_array_equal(whole.days, np.concatenate([part.days for part in parts]))
    assert len(whole.days) == days
    seam = len(parts[0].days)
    across = whole.series[channel.name].read(seam - 3, seam + 3)
    np.testing.assert_array_equal(across, np.concatenate([parts[0].read(seam - 3, seam), parts[1].read(0, 3)]))


def test_racmo_and_the_gcm_share_days_in_spite_of_their_stamps(shared_data):
    """The RCM is stamped 00:00, the GCM 12:00; both have winters only."""
    channels = [TAS, Channel("pr"), Channel("psl"), Channel("ta", 850), Channel("hus", 850)]
    gcm = open_files("CNRM", [shared_data / "gcm_cnrm_cm5_iberia/*.nc"], channels, gaps="skip")
    rcm = open_files(
        "RACMO",
        [shared_data / "cordex_eur44_racmo_iberia/*.nc"],
        channels[:2],
        gaps="skip",
        assume_units={"pr": "mm/day"},
    )
    eobs = open_files("E-OBS", [shared_data / EOBS("tg")], [TAS], gaps="skip")
    for other in (gcm, eobs):
        np.testing.assert_array_equal(rcm.days, other.days)
    stamps = []
    for path in (RACMO("tas"), CNRM("tas")):
        with netCDF4.Dataset(shared_data / path) as file:
            stamps.append(float(file["time"][0]) % 1.0)
    assert stamps == [0.0, 0.5]
    assert 2.0 < rcm.series["pr"].read(0, 1805).mean() < 2.5


def test_winters_are_gaps_until_the_config_says_so(shared_data):
    with pytest.raises(InputDataError, match="tas lacks days: 19 gaps, 5225 days: 1983-03-01 to 1983-11-30"):
        open_files("RACMO", [shared_data / RACMO("tas")], [TAS])


# --- traps ----------------------------------------------------------------------------------------------------------------------------


def test_undeclared_fill_below_ground_is_missing_at_1000_hpa_only(shared_data):
    with netCDF4.Dataset(shared_data / KACE) as file:
        file.set_auto_maskandscale(False)
        assert file["ta"][:].max() == np.float32(9.96921e36) and "_FillValue" not in file["ta"].ncattrs()
    for level, missing in ((1000, 360), (850, 0)):
        source = open_files("A", [shared_data / KACE], [Channel("ta", level)])
        assert np.isnan(source.series[f"ta{level}"].read(0, 5400)).sum() == missing
        assert any("undeclared" in note for note in source.notes) == bool(missing)


def test_the_orography_beside_its_own_axes(shared_data):
    """Its 2-D lat/lon are cell corners, up to 0.078 degree off; its rlat, rlon are those of the RCM."""
    orography, rcm = grid_of(shared_data / OROGRAPHY), grid_of(shared_data / RACMO_EUR11)
    assert orography.notes == (
        "2-D lat/lon lie up to 0.722 cells (0.0779 degree) off what axes rlat, rlon and the grid mapping give, "
        "all moved by +0.50 cells in y and -0.50 in x; the axes are trusted: they are evenly spaced, 2-D values are derived from them",
    )
    assert max(np.abs(orography.axes.y - rcm.axes.y).max(), np.abs(orography.axes.x - rcm.axes.x).max()) < 1e-13
    notes: list[str] = []
    require_same_grid(rcm, orography, names=("tas", "orog"), notes=notes)
    assert len(notes) <= 1


@pytest.mark.parametrize(
    ("rcm", "gcm", "channel"),
    [
        ("cordex_files/test1.nc", "gcm_files/tiny_gcm_360_day_cal.nc", "tasmin"),
        (NAM44, "gcm_files/tasmax_day_HadGEM2*.nc", "tasmax"),
    ],
)
def test_an_rcm_and_a_360_day_driver_are_not_paired(shared_data, tmp_path, rcm, gcm, channel):
    config = tmp_path / "config.yaml"
    config.write_text(f"""\
workspace: results
sources:
  RCM: {{role: rcm, files: ["{shared_data / rcm}"]}}
  GCM: {{role: gcm, files: ["{shared_data / gcm}"], drives: RCM}}
predictors: [{{name: {channel}}}]
targets: [{{name: {channel}}}]
upscale: {{to: {{coarsen: 2}}}}
split: {{train: [1950], validation: [1951], test: [1952]}}
model: {{name: resunet, width: 8}}
train: {{on: [RCM/perfect], epochs: 1}}
""")
    calendar = "noleap" if "NAM" in rcm else "standard"
    words = (f"'RCM' has calendar {calendar} and its driver 'GCM' 360_day", "days cannot be paired", "drives")
    assert_refused(run_cli("prepare", config), *words, untouched=tmp_path / "results")


def test_sums_of_unknown_time_need_their_units_named(shared_data):
    for path in (RACMO("pr"), EOBS("rr")):
        with pytest.raises(InputDataError, match="sum over an unknown time") as caught:
            open_files("A", [shared_data / path], [Channel("pr")], gaps="skip")
        assert "assume_units" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name", "spelling"),
    [
        (NCEP("hus850"), "hus", "kg.kg-1"),
        (NCEP("pr"), "pr", "Kg/m^2/s"),
        (NCEP("psl"), "psl", "Pascals"),
        (OWN("Q850"), "Q", "kg kg**-1"),
        (OWN("Z500"), "Z", "m**2 s**-2"),
        (OWN("T850"), "lat", "degrees north"),
        (OWN("T850"), "level", "millibar"),
        (EOBS("tg"), "tg", "Celsius"),
    ],
)
def test_spellings_of_units_are_there_and_understood(shared_data, path, name, spelling):
    """That they are understood is in EXPECTED: the values come out right."""
    with netCDF4.Dataset(shared_data / path) as file:
        assert file[name].units == spelling
    assert isinstance(EXPECTED[path], Opens)


def test_a_level_that_is_not_there_is_refused_with_those_that_are(shared_data):
    with pytest.raises(InputDataError, match="ta700 not found") as caught:
        open_files("CNRM", [shared_data / CNRM("ta850")], [Channel("ta", 700)], gaps="skip")
    assert any("at 850 hPa" in line for line in caught.value.findings)


def test_another_name_needs_the_config(shared_data):
    with pytest.raises(InputDataError, match="psl not found") as caught:
        open_files("A", [shared_data / OWN("SLPd")], [Channel("psl")])
    assert any("SLPd" in line for line in caught.value.findings)


def test_the_predictor_stack_of_doury(shared_data):
    """Names with levels in them, whose one scalar level coordinate lies; surface pressure under the name psl is refused when read."""
    channels = [Channel(name, level) for name in ("zg", "ta", "hus", "ua", "va") for level in (850, 700, 500)]
    source = open_files("A", [shared_data / DOURY], [*channels, *(Channel(name) for name in ("tas", "uas", "vas", "psl"))])
    heights = [np.nanmean(source.series[f"zg{level}"].read(0, 1)) for level in (850, 700, 500)]
    assert heights == sorted(heights) and all(np.isnan(one.read(0, 1)).mean() > 0.4 for key, one in source.series.items() if key != "psl")
    with pytest.raises(InputDataError, match="values from 58470"):
        source.series["psl"].read(0, 1)


# --- grids ----------------------------------------------------------------------------------------------------------------------------


def test_the_pole_and_the_date_line_inside(shared_data):
    grid = grid_of(shared_data / ANTARCTICA)
    assert grid.lat.min() < -89.9 and -180.0 <= grid.lon.min() < -179.0 and 179.0 < grid.lon.max() <= 180.0
    areas = grid.areas()
    assert areas.max() / areas.min() < 1.3
    assert areas.sum() == pytest.approx(97 * 125 * np.deg2rad(0.44) ** 2, rel=0.06)
    np.testing.assert_allclose(bilinear_weights(grid, grid).apply(grid.lat), grid.lat, atol=1e-4)
    cap, globe = (
        lonlat_grid(np.linspace(-90, -70, 6), np.linspace(-180, 180, 31)),
        lonlat_grid(np.linspace(-90, -50, 21), 2.0 * np.arange(181)),
    )
    conserved = conservative_weights(grid, cap)
    np.testing.assert_allclose(conserved.coverage, 1.0, atol=1e-12)
    np.testing.assert_allclose(conserved.apply(smooth(grid)), smooth(cap), atol=5e-3)
    np.testing.assert_allclose(bilinear_weights(globe, grid).apply(smooth(globe)), smooth(grid), atol=5e-3)


def smooth(grid: Grid) -> np.ndarray:
    return np.sin(np.deg2rad(grid.lat)) + 0.3 * np.cos(np.deg2rad(grid.lat)) * np.cos(np.deg2rad(grid.lon))


def test_the_global_gaussian_grid_closes(shared_data):
    grid = grid_of(shared_data / MIROC6)
    assert grid.areas().sum() == pytest.approx(4.0 * np.pi, rel=1e-6)
    target = Grid(np.full((1, 4), 50.0), np.array([[-179.9, 179.9, 0.1, 359.0]]))
    warm = bilinear_weights(grid, target).apply(np.cos(np.deg2rad(grid.lon)))
    np.testing.assert_allclose(warm[0], np.cos(np.deg2rad(target.lon[0])), atol=1e-3)


def test_bilinear_to_a_regular_grid_as_cdo_does_it(shared_data):
    """alps1_regular.nc is alps1.nc after ``cdo remapbil``, which interpolates in longitude and latitude, here in the rotated axes."""
    source, target = (grid_of(shared_data / f"cordex_files/{name}.nc") for name in ("alps1", "alps1_regular"))
    fields = []
    for name in ("alps1", "alps1_regular"):
        with netCDF4.Dataset(shared_data / f"cordex_files/{name}.nc") as file:
            fields.append(np.ma.filled(file["tas"][:].astype(float), np.nan))
    ours = bilinear_weights(source, target).apply(fields[0])
    difference = np.abs(ours - fields[1])
    assert np.isfinite(fields[1]).mean() > 0.9 and np.nanmax(difference) < 0.3 and np.nanmean(difference) < 0.01


def test_ml_bench_templates_share_a_grid_in_km(shared_data):
    first, second = (grid_of(shared_data / f"cordex_files/template_{name}_ALPS.nc") for name in ("tasmax", "pr"))
    assert first.digest == second.digest and first.axes.units == "km" and first.shape == (128, 128)
    coordinates = open_grid(shared_data / "cordex_files/template_tasmax_ALPS.nc")
    assert "crs" not in coordinates
    source = open_files("A", [shared_data / "cordex_files/template_tasmax_ALPS.nc"], [Channel("tasmax")])
    assert any("grid mapping variable 'Lambert_Conformal' is missing from the file" in note for note in source.notes)
