"""Layouts of predictions: what is written is read back, in every one of them."""

from __future__ import annotations

import hashlib
import json
import warnings

import netCDF4
import numpy as np
import pytest
import xarray as xr
from faults import fault
from profile_world import FACETS, fields_of, small_grid, spec_of, write

from downscale.cf.open import open_files
from downscale.cf.write import round_bits
from downscale.errors import ConfigError, DownscaleError, OutputExistsError
from downscale.grid.domains import domain_grid
from downscale.grid.grid import Grid
from downscale.profiles.facets import merge_facets
from downscale.profiles.output import check_output, open_output
from downscale.profiles.rules import CORDEX_CMIP6
from downscale.profiles.stretches import stretches
from downscale.variables import Channel

SERIES = {
    "ood_score": {"long_name": "distance from the training days"},
    "ood_flag": {
        "long_name": "far",
        "flag_masks": np.array([1, 2], np.int8),
        "flag_meanings": "predictors features",
        "_FillValue": np.int8(-1),
    },
    "lead_time": {"standard_name": "forecast_period", "long_name": "time since the start", "units": "days"},
}
STORED = {"tas": 1.0, "pr": 1 / 86400.0}


def numbers(spec):
    n = len(spec.days)
    flags = np.where(np.arange(n) % 7 == 0, -1, np.arange(n) % 4).astype(np.int8)
    return {"ood_score": np.arange(n, dtype=np.float32), "ood_flag": flags, "lead_time": np.arange(n) + 0.5}


def short(folder, **more):
    return spec_of(folder, first=20210101, last=20210220, **more)


@pytest.mark.parametrize("profile", ["cf", "zarr"])
@pytest.mark.parametrize("members", [(), ("seed 1", "seed 22")])
def test_fields_members_and_numbers_a_day_are_read_back(tmp_path, profile, members):
    spec = short(tmp_path, members=members, series=SERIES)
    fields, series = fields_of(spec), numbers(spec)
    fields[3, ..., 1, 2] = np.nan
    output = write(profile, spec, fields=fields, series=series, step=11)
    for place, name in enumerate(spec.variables):
        path = output.files[0 if profile == "zarr" else place]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened = xr.open_zarr(path) if profile == "zarr" else xr.open_dataset(path)
        with opened as data:
            np.testing.assert_allclose(data[name].values, fields[..., place, :, :] * STORED[name], rtol=1e-6)
            assert data["time"].values[-1] == np.datetime64("2021-02-20T12:00")
            np.testing.assert_array_equal(data["ood_score"], series["ood_score"])
            np.testing.assert_array_equal(data["ood_flag"].fillna(-1), series["ood_flag"])
            assert data["ood_flag"].encoding["dtype"] == np.int8
            assert "lead_time" in data[name].coords and data["lead_time"].dims == ("time",)
            assert data[name].attrs["ancillary_variables"] == "ood_score ood_flag"
            assert data[name].dims == ("time", *(("realization",) if members else ()), "rlat", "rlon")
            if members:
                assert [str(label) for label in data["member_label"].astype(str).values] == list(members)
                assert data["realization"].values.tolist() == [1, 2]


def test_a_period_is_part_of_the_names(tmp_path):
    spec = short(tmp_path, period="20210101-20210220")
    assert [path.name for path in write("cf", spec).files] == ["tas_20210101-20210220.nc", "pr_20210101-20210220.nc"]
    assert [path.name for path in write("zarr", spec).files] == ["prediction_20210101-20210220.zarr"]


def test_a_statistic_over_members_says_so(tmp_path):
    write("cf", short(tmp_path, statistic="standard_deviation"))
    with netCDF4.Dataset(tmp_path / "tas.nc") as tas, netCDF4.Dataset(tmp_path / "pr.nc") as pr:
        assert tas["tas"].cell_methods == "area: time: mean realization: standard_deviation"
        assert tas["tas"].units_metadata == "temperature: difference" and "units_metadata" not in pr["pr"].ncattrs()


@pytest.mark.parametrize("profile", ["cf", "cordex", "zarr"])
def test_an_exception_leaves_nothing_unfinished(tmp_path, profile):
    spec = short(tmp_path / "out")
    with pytest.raises(KeyError), open_output(profile, spec) as output:
        output.append(spec.days[:3], fields_of(spec)[:3])
        raise KeyError("inside")
    assert not [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("profile", ["cordex", "zarr"])
def test_days_that_do_not_come_are_noticed(tmp_path, profile):
    spec = short(tmp_path)
    with pytest.raises((ValueError, DownscaleError), match="were written"), open_output(profile, spec) as output:
        output.append(spec.days[:3], fields_of(spec)[:3])


def test_a_store_replaces_an_older_one_whole(tmp_path):
    write("zarr", short(tmp_path))
    write("zarr", spec_of(tmp_path, first=20210101, last=20210103))
    assert xr.open_zarr(tmp_path / "prediction.zarr").sizes["time"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["prediction.zarr"]


@pytest.mark.parametrize("bits", [4, 7, 10])
def test_rounding_keeps_the_stated_error(tmp_path, bits):
    spec = short(tmp_path, significant_bits=bits)
    fields = fields_of(spec)
    fields[0, 0, 0, 0] = np.nan
    write("cf", spec, fields=fields)
    with netCDF4.Dataset(tmp_path / "tas.nc") as file:
        stored, error = file["tas"][:], float(file["tas"].quantization_maximum_relative_error)
        assert error == 2.0 ** -(bits + 1) and file["tas"].quantization_nsb == bits
        assert np.ma.getmaskarray(stored).sum() == 1
        relative = np.abs(stored / fields[:, 0] - 1)
        assert 0.5 * error < relative.max() <= error
        words = np.asarray(stored.filled(1.0)).view(np.uint32)
        assert not (words & np.uint32((1 << (23 - bits)) - 1)).any()


def test_rounding_is_to_the_nearest_with_halves_to_even():
    values = np.array([1.0, 1.25, 1.75, 1.375, np.inf, np.nan, -1.25], np.float32)
    round_bits(values, 1)
    np.testing.assert_array_equal(values, np.array([1.0, 1.0, 2.0, 1.5, np.inf, np.nan, -1.0], np.float32))


def test_cordex_names_folders_and_five_year_files(tmp_path):
    spec = spec_of(tmp_path, first=20191230, last=20210102, facets={**FACETS, "version": "v20260101"}, series=SERIES)
    fields = fields_of(spec)
    output = write("cordex", spec, fields=fields, series=numbers(spec))
    tail = "EUR-12_CNRM-ESM2-1_ssp370_r1i1p1f2_CNRM-MF_ALADIN-EMUL-1_v1-r1_day"
    folder = tmp_path / "CORDEX-CMIP6/ESD/EUR-12/CNRM-MF/CNRM-ESM2-1/ssp370/r1i1p1f2/ALADIN-EMUL-1/v1-r1/day"
    spans = ("20191230-20201231", "20210101-20210102")
    fields_files = [folder / name / "v20260101" / f"{name}_{tail}_{span}.nc" for span in spans for name in ("tas", "pr")]
    assert output.files == [*fields_files, *(tmp_path / "series" / f"series_{tail}_{span}.nc" for span in spans)]
    source = open_files("A", [folder], [Channel("tas"), Channel("pr")])
    np.testing.assert_array_equal(source.days, spec.days)
    np.testing.assert_array_equal(source.series["tas"].read(0, len(spec.days)), fields[:, 0])
    with netCDF4.Dataset(output.files[-2]) as file:
        assert set(file.variables) == {"time", "time_bnds", *SERIES}


@fault("O02", "profile cordex: names, attributes, bounds and types are those of the archive; its checkers find what no emulator can meet")
def test_cordex_files_have_the_attributes_and_no_tracking_id_twice(tmp_path):
    output = write("cordex", short(tmp_path, members=("a", "b"), significant_bits=9))
    assert [path.name.split("_")[7] for path in output.files] == ["v1-r1", "v1-r2"] * 2
    ids = set()
    for path in output.files:
        with netCDF4.Dataset(path) as file:
            assert set(CORDEX_CMIP6.required) <= set(file.ncattrs()) and file.data_model == "NETCDF4_CLASSIC"
            assert (file.activity_id, file.source_type, file.external_variables) == ("ESD", "RCM-emulator", "areacella")
            assert file.downscale_model_id and "rounded" in file.comment and file.version_realization_info.startswith("member")
            assert file[file.variable_id].cell_measures == "area: areacella" and file["crs"].earth_radius == 6371229.0
            assert file["lat"].bounds == "vertices_lat" and file["rlat"].long_name == "latitude in rotated pole grid"
            assert file["time"].chunking() == [51]
            ids.add(file.tracking_id)
    assert len(ids) == 4
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert ids < {entry["tracking_id"] for entry in manifest["files"]} and len(manifest["files"]) == 4 + 2
    for entry in manifest["files"]:
        assert hashlib.sha256((tmp_path / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]


def test_the_members_of_cordex_files_are_those_that_came(tmp_path):
    spec = short(tmp_path, members=("a", "b"))
    fields = fields_of(spec)
    output = write("cordex", spec, fields=fields)
    for path, (variable, member) in zip(output.files, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        with netCDF4.Dataset(path) as file:
            name = spec.variables[variable]
            np.testing.assert_allclose(file[name][:], fields[:, member, variable] * STORED[name], rtol=1e-6)


def test_later_periods_go_to_the_version_that_was_begun(tmp_path):
    write("cordex", spec_of(tmp_path, first=20210101, last=20210103, facets={**FACETS, "version": "v20250101"}))
    later = write("cordex", spec_of(tmp_path, first=20260101, last=20260103, period="20260101-20260103"))
    assert {path.parent.name for path in later.files} == {"v20250101"}
    assert (tmp_path / "manifest_20260101-20260103.json").exists()


def test_historical_and_scenario_are_parted_by_the_day():
    days = np.array([20141230, 20141231, 20150101, 20151231, 20160101])
    found = stretches(days, ["historical", "ssp370"], CORDEX_CMIP6)
    assert [(one.first, one.last, one.experiment) for one in found] == [
        (20141230, 20141231, "historical"),
        (20150101, 20151231, "ssp370"),
        (20160101, 20160101, "ssp370"),
    ]
    assert [one.experiment for one in stretches(days, ["evaluation"], CORDEX_CMIP6)] == ["evaluation"] * 2
    for wrong in ("historical", "ssp370"):
        with pytest.raises(ConfigError, match="not of the experiment") as caught:
            stretches(days, [wrong], CORDEX_CMIP6)
        assert "historical," in caught.value.hint


def test_all_missing_facets_are_told_at_once_before_anything_is_written():
    with pytest.raises(ConfigError) as caught:
        check_output("cordex", {"driving_source_id": "CNRM-ESM2-1"}, ("tas",))
    assert caught.value.code == 2 and len(caught.value.findings) == 8 and len(caught.value.lines()) <= 3
    assert any("sources.NAME.facets.experiment_id" in line for line in caught.value.findings)
    check_output("cordex", FACETS, ("tas", "pr"))
    check_output("cf", {}, ("tas",))


@pytest.mark.parametrize(
    ("facet", "value", "told"),
    [
        ("source_id", "my emulator", "letters, digits and dashes"),
        ("source_id", "../../etc", "letters, digits and dashes"),
        ("driving_variant_label", "r1", "form"),
        ("driving_experiment_id", "rcp85", "rcp85"),
        ("driving_experiment_id", "ssp370,historical", "historical and one scenario"),
        ("domain_id", "MARS-12", "no domain of the archive"),
        ("domain_id", "EUR-99", "it has EUR-12, EUR-12i"),
        ("domain_id", "EUR-11", "did you mean EUR-12?"),
        ("domain_id", "EUR-44i", "did you mean EUR-50i?"),
        ("source_type", "ARCM", "an emulator is none"),
        ("activity_id", "DD", "an emulator is none"),
        ("mip_era", "CMIP5", "CMIP6"),
        ("colour", "blue", "not known"),
        ("version", "1", "form"),
    ],
)
def test_facets_that_cannot_be_used_are_refused(facet, value, told):
    with pytest.raises(ConfigError) as caught:
        check_output("cordex", {**FACETS, facet: value}, ("tas",))
    assert any(told in line for line in caught.value.findings)


def test_variables_that_the_archive_does_not_take_are_refused():
    with pytest.raises(ConfigError) as caught:
        check_output("cordex", FACETS, ("tas", "zg"))
    assert "'zg'" in caught.value.findings[0]


def test_facets_of_the_source_are_those_of_the_driver():
    merged = merge_facets({"source_id": "CNRM-ESM2-1", "driving_experiment_id": "ssp370", "mip_era": "CMIP6"}, {"source_id": "EMUL"})
    assert merged == {"driving_source_id": "CNRM-ESM2-1", "driving_experiment_id": "ssp370", "mip_era": "CMIP6", "source_id": "EMUL"}


@fault("G11", "profile cordex refuses a projected grid without one (2)")
def test_a_grid_without_a_mapping_is_refused_and_a_longitude_latitude_grid_needs_none(tmp_path):
    grid = small_grid()
    bare = Grid(grid.lat, grid.lon, grid.lat_corners, grid.lon_corners)
    with pytest.raises(ConfigError, match="grid mapping"):
        open_output("cordex", short(tmp_path, grid=bare))
    regular = domain_grid("EUR-12i").crop(slice(100, 104), slice(300, 305))
    path = write("cordex", short(tmp_path, grid=regular, facets={**FACETS, "domain_id": "EUR-12i"})).files[0]
    with netCDF4.Dataset(path) as file:
        assert "no grid_mapping" in file.grid and file["tas"].dimensions == ("time", "lat", "lon") and file["lat"].bounds == "lat_bnds"


def test_longitudes_increase_across_the_date_line(tmp_path):
    grid = domain_grid("AUS-50").crop(slice(0, 129), slice(150, 200))
    wrapped = Grid(grid.lat, (grid.lon + 180) % 360 - 180, grid.lat_corners, grid.lon_corners, grid.axes, grid.crs)
    path = write("cordex", spec_of(tmp_path, first=20210101, last=20210102, grid=wrapped, facets={**FACETS, "domain_id": "AUS-50"})).files[
        0
    ]
    with netCDF4.Dataset(path) as file:
        lon, corners = file["lon"][:], file["vertices_lon"][:]
        assert (np.diff(lon, axis=1) > 0).all() and lon.min() >= -180 and lon.max() <= 360
        assert np.abs(corners - lon[..., None]).max() < 2


def test_links_in_the_way_are_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "CORDEX-CMIP6").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError):
        open_output("cordex", short(tmp_path / "out"))
    (tmp_path / "out" / "prediction.zarr").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError):
        open_output("zarr", short(tmp_path / "out"))
    assert not list((tmp_path / "elsewhere").iterdir())
