"""downscale weights and downscale regrid: any files in, weights and fields on other grids out; nothing is left by a refusal."""

from __future__ import annotations

import json

import cf_files
import netCDF4
import numpy as np
import pytest
import xarray as xr
from conftest import run_cli

from downscale.grid.engines import make_weights
from downscale.grid.weight_files import stored_grid
from downscale.pairs import remap
from downscale.pairs.remap_input import grid_of_file

LAT, LON = np.arange(38.5, 50.0, 1.0), np.arange(-3.5, 12.0, 1.0)
COARSE = {"lat": np.arange(39.0, 50.0, 2.0), "lon": np.arange(-3.0, 12.0, 2.0)}
DAYS = 31


def field(days: int = DAYS, seed: int = 0) -> np.ndarray:
    return 280.0 + np.random.default_rng(seed).normal(size=(days, len(LAT), len(LON)))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """source.nc and target.nc in the working folder, and w.nc between them."""
    monkeypatch.chdir(tmp_path)
    cf_files.write(tmp_path / "source.nc", lat=LAT, lon=LON, data=field(), height=2.0)
    cf_files.write(tmp_path / "target.nc", **COARSE)
    assert run_cli("weights", "source.nc", "target.nc", "-o", "w.nc", "--engine", "builtin", "-q").exit_code == 0
    return tmp_path


def names(folder) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def regrid(*arguments, code=0):
    result = run_cli("regrid", *arguments, "-q")
    assert result.exit_code == code, result.output
    return result


def expected(data, **options):
    weights = make_weights(grid_of_file("source.nc"), grid_of_file("target.nc"), engine="builtin")
    return weights.apply(data.astype(np.float32), **options)


def test_weights_say_what_they_are(world):
    result = run_cli("weights", "source.nc", "target.nc", "-o", "more.nc", "--norm", "destarea", "--edges", "parallels", "--json")
    summary = json.loads(result.stdout)
    assert result.exit_code == 0 and summary["artefact"] == "more.nc"
    assert "48 wholly covered" in summary["summary"]["target cells"] and "destarea" in summary["summary"]["weights"]
    with netCDF4.Dataset("more.nc") as file:
        assert (file.normalization, file.downscale_edges) == ("destarea", "parallels")


def test_regrid_gives_every_field_and_what_belongs_to_it(world):
    with netCDF4.Dataset("source.nc", "a") as file:
        for name, dims in (("levels", ("time", "plev", "lat", "lon")), ("orog", ("lon", "lat"))):
            if "plev" in dims:
                file.createDimension("plev", 2)
                file.createVariable("plev", "f8", ("plev",))[:] = [85000.0, 50000.0]
            variable = file.createVariable(name, "f4", dims, fill_value=1e20)
            variable.units = "m"
            variable[:] = field()[:, None].repeat(2, axis=1) if "plev" in dims else field(1)[0].T
        file["tas"].cell_methods = "time: mean"
        packed = file.createVariable("packed", "i2", ("time", "lat", "lon"), fill_value=-32768)
        packed.scale_factor, packed.add_offset = 0.01, 280.0
        packed[:] = field()
    regrid("source.nc", "-w", "w.nc", "-o", "out.nc")
    with xr.open_dataset("out.nc") as out, xr.open_dataset("source.nc") as source:
        np.testing.assert_array_equal(out["tas"].values, expected(field()))
        np.testing.assert_array_equal(out["levels"].values[:, 1], out["tas"].values)
        np.testing.assert_array_equal(out["orog"].values, expected(field(1)[0]))
        np.testing.assert_allclose(out["packed"].values, out["tas"].values, atol=0.006)
        assert out["levels"].dims == ("time", "plev", "lat", "lon") and out["orog"].dims == ("lat", "lon")
        assert (out["time"].values == source["time"].values).all() and (out["time_bnds"].values == source["time_bnds"].values).all()
        assert out["tas"].attrs["cell_methods"] == "time: mean" and out["tas"].attrs["units"] == "K"
        assert float(out["height"]) == 2.0 and out["plev"].values[1] == 50000.0
        np.testing.assert_allclose(out["lat_bnds"].values[0], [38.0, 40.0])
        assert "regrid with w.nc" in out.attrs["history"] and out.attrs["Conventions"] == "CF-1.11"
    assert names(world) == {"source.nc", "target.nc", "w.nc", "out.nc"}


def test_zarr_holds_the_same_as_netcdf(world):
    regrid("source.nc", "-w", "w.nc", "-o", "out.nc")
    regrid("source.nc", "-w", "w.nc", "-o", "out.zarr")
    with xr.open_dataset("out.nc") as one, xr.open_zarr("out.zarr", consolidated=False) as other:
        assert set(one.variables) == set(other.variables)
        for name in one.variables:
            np.testing.assert_array_equal(one[name].values, other[name].values)
            assert one[name].dims == other[name].dims


def test_blocks_change_nothing(world, monkeypatch):
    regrid("source.nc", "-w", "w.nc", "-o", "one.nc")
    monkeypatch.setattr(remap, "_BLOCK_BYTES", 8 * len(LAT) * len(LON) * 4)
    regrid("source.nc", "-w", "w.nc", "-o", "two.nc")
    with xr.open_dataset("one.nc") as one, xr.open_dataset("two.nc") as two:
        np.testing.assert_array_equal(one["tas"].values, two["tas"].values)


def test_periods_are_joined_in_the_order_of_their_times(world):
    later = field(28, seed=1)
    cf_files.write(world / "a_later.nc", first=20010201, last=20010228, lat=LAT, lon=LON, data=later, time_units="days since 2000-01-01")
    regrid("a_later.nc", "source.nc", "-w", "w.nc", "-o", "out.nc")
    with xr.open_dataset("out.nc") as out:
        np.testing.assert_array_equal(out["tas"].values, np.concatenate([expected(field()), expected(later)]))
        steps = np.diff(out["time"].values).astype("timedelta64[h]").astype(int)
        assert len(out["time"]) == 59 and (steps == 24).all()
        assert (out["time_bnds"].values[1:, 0] == out["time_bnds"].values[:-1, 1]).all()


def test_a_file_upside_down_and_the_other_way_round_gives_the_same(world):
    regrid("source.nc", "-w", "w.nc", "-o", "one.nc")
    with xr.open_dataset("source.nc", decode_times=False) as source:
        turned = source.isel(lat=slice(None, None, -1)).transpose("time", "lon", "lat", ...)
        turned.assign_coords(lon=turned["lon"] % 360.0).to_netcdf("turned.nc")
    regrid("turned.nc", "-w", "w.nc", "-o", "two.nc")
    assert run_cli("weights", "turned.nc", "target.nc", "-o", "w2.nc", "-q").exit_code == 0
    regrid("turned.nc", "-w", "w2.nc", "-o", "three.nc")
    with xr.open_dataset("one.nc") as one, xr.open_dataset("two.nc") as two, xr.open_dataset("three.nc") as three:
        np.testing.assert_allclose(two["tas"].values, one["tas"].values, rtol=1e-6)
        np.testing.assert_array_equal(three["tas"].values, two["tas"].values)
    assert stored_grid("w2.nc", "source").lat[0, 0] == LAT[-1], "cells count as they stand in the file"


def test_missing_values_and_the_normalisations(world):
    data = field()
    data[3, :5, :6] = np.nan
    with netCDF4.Dataset("source.nc", "a") as file:
        file["tas"][:] = np.ma.masked_invalid(data)
    regrid("source.nc", "-w", "w.nc", "-o", "mean.nc")
    regrid("source.nc", "-w", "w.nc", "--norm", "destarea", "--min-valid-fraction", "0.01", "-o", "integral.nc")
    with xr.open_dataset("mean.nc") as mean, xr.open_dataset("integral.nc") as integral:
        np.testing.assert_array_equal(mean["tas"].values, expected(data))
        np.testing.assert_array_equal(integral["tas"].values, expected(data, min_valid_fraction=0.01, norm="destarea"))
        assert np.isnan(mean["tas"].values[3]).any() and not np.isnan(mean["tas"].values[4]).any()


def test_to_a_domain_by_name(world):
    assert run_cli("weights", "source.nc", "EUR-44", "-o", "eur.nc", "-q").exit_code == 0
    regrid("source.nc", "-w", "eur.nc", "-o", "out.nc")
    with xr.open_dataset("out.nc", decode_coords="all") as out:
        assert out["tas"].dims == ("time", "rlat", "rlon") and out["tas"].shape[1:] == (103, 106)
        assert {"lat", "lon", "crs", "lat_vertices"} <= set(out.coords)
        assert out["crs"].attrs["grid_north_pole_latitude"] == 39.25
        inside = ~np.isnan(out["tas"].values[0])
        assert 200 < inside.sum() < 2000
    grid = grid_of_file("out.nc")
    assert grid.digest == grid_of_file("eur.nc").digest


def test_a_weight_file_stands_for_its_target_grid(world):
    assert run_cli("weights", "source.nc", "w.nc", "-o", "again.nc", "-q").exit_code == 0
    assert stored_grid("again.nc", "target").digest == grid_of_file("target.nc").digest


def test_weights_of_others_need_a_grid_and_a_normalisation(world):
    with xr.open_dataset("w.nc") as file:
        file[["S", "row", "col"]].load().drop_attrs().to_netcdf("xesmf.nc")
    assert "holds no target grid" in regrid("source.nc", "-w", "xesmf.nc", "-o", "out.nc", code=2).output
    assert "normalised" in regrid("source.nc", "-w", "xesmf.nc", "--target", "target.nc", "-o", "out.nc", code=2).output
    regrid("source.nc", "-w", "xesmf.nc", "--target", "target.nc", "--norm", "fracarea", "-o", "out.nc")
    with xr.open_dataset("out.nc") as out:
        np.testing.assert_allclose(out["tas"].values, expected(field()), rtol=1e-6)
    checked = run_cli(
        "weights", "source.nc", "target.nc", "--engine", "file", "--weights-file", "xesmf.nc", "--layout", "scrip", "-o", "c.nc", "-q"
    )
    assert checked.exit_code == 0
    regrid("source.nc", "-w", "c.nc", "--target", "target.nc", "-o", "cdo.nc")


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_an_output_that_exists_is_kept(world, suffix):
    regrid("source.nc", "-w", "w.nc", "-o", f"out.{suffix}")
    before = names(world)
    assert "--overwrite" in regrid("source.nc", "-w", "w.nc", "-o", f"out.{suffix}", code=3).output
    regrid("source.nc", "-w", "w.nc", "-o", f"out.{suffix}", "--overwrite")
    assert names(world) == before


def test_what_is_no_output_is_never_replaced(world):
    (world / "out.zarr").mkdir()
    (world / "out.zarr" / "thesis.tex").write_text("all of it")
    regrid("source.nc", "-w", "w.nc", "-o", "out.zarr", "--overwrite", code=3)
    assert (world / "out.zarr" / "thesis.tex").read_text() == "all of it"
    assert run_cli("weights", "source.nc", "target.nc", "-o", "w.nc").exit_code == 3
    assert "neither .nc nor .zarr" in regrid("source.nc", "-w", "w.nc", "-o", "out.grib", code=2).output


def shifted(path):
    cf_files.write(path, lat=LAT + 0.5, lon=LON, data=field())


def other_calendar(path):
    cf_files.write(path, lat=LAT, lon=LON, first=20010201, last=20010230, calendar="360_day", data=field(30))


def overlapping(path):
    cf_files.write(path, lat=LAT, lon=LON, first=20010115, last=20010214, data=field())


def no_fields(path):
    xr.Dataset({"a": ("x", np.arange(3.0))}).to_netcdf(path)


@pytest.mark.parametrize(
    ("make", "beside", "words"),
    [
        (shifted, [], "made for another grid"),
        (shifted, ["source.nc"], "on different grids"),
        (other_calendar, ["source.nc"], "calendars differ"),
        (overlapping, ["source.nc"], "overlap"),
        (no_fields, [], "no file has a gridded variable"),
    ],
)
@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_files_that_do_not_fit_are_refused(world, make, beside, words, suffix):
    make(world / "other.nc")
    before = names(world)
    assert words in regrid(*beside, "other.nc", "-w", "w.nc", "-o", f"out.{suffix}", code=4).output
    assert names(world) == before


def test_a_damaged_file_leaves_no_output(world):
    with netCDF4.Dataset("bad.nc", "w") as file, netCDF4.Dataset("source.nc") as source:
        for dim, size in (("lat", len(LAT)), ("lon", len(LON))):
            file.createDimension(dim, size)
            axis = file.createVariable(dim, "f8", (dim,))
            axis.units = source[dim].units
            axis[:] = source[dim][:]
        file.createVariable("tas", "f4", ("lat", "lon"), zlib=True, chunksizes=(len(LAT), len(LON)))[:] = field(1)[0]
    data = bytearray((world / "bad.nc").read_bytes())
    start = data.rfind(b"x\x5e") if data.rfind(b"x\x5e") > 0 else len(data) // 2
    data[start + 20 : start + 120] = bytes(100)
    (world / "bad.nc").write_bytes(bytes(data))
    before = names(world)
    result = run_cli("regrid", "bad.nc", "-w", "w.nc", "-o", "out.nc", "-q")
    assert result.exit_code == 4, result.output
    assert names(world) == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("source.nc", "nowhere.nc"), 2, "no such file"),
        (("source.nc", "EUR-13"), 2, "close: EUR-12"),
        (("source.nc", "target.nc", "--engine", "file"), 2, "go together"),
        (("source.nc", "target.nc", "--method", "nearest", "--norm", "destarea"), 2, "no meaning"),
        (("source.nc", "AUS-44"), 4, "do not overlap"),
    ],
)
def test_weights_that_make_no_sense_are_refused(world, arguments, code, words):
    before = names(world)
    result = run_cli("weights", *arguments, "-o", "new.nc", "-q")
    assert (result.exit_code, names(world)) == (code, before), result.output
    assert words in result.output


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_other_methods(world, method):
    assert run_cli("weights", "source.nc", "target.nc", "-o", "m.nc", "--method", method, "-q").exit_code == 0
    regrid("source.nc", "-w", "m.nc", "-o", "out.nc")
    weights = make_weights(grid_of_file("source.nc"), grid_of_file("target.nc"), method=method)
    with xr.open_dataset("out.nc") as out:
        np.testing.assert_array_equal(out["tas"].values, weights.apply(field().astype(np.float32)))


def test_prepare_takes_weights_from_a_file(experiment, tiny_world, tmp_path):
    from downscale.config.load import load_config
    from downscale.pairs.store import PairStore

    fine, coarse = (next(iter(sorted((tiny_world / role / "VGCM-A").glob("*tas_*")))) for role in ("rcm", "gcm"))
    assert run_cli("weights", fine, coarse, "-o", tmp_path / "w.nc", "-q").exit_code == 0
    assert run_cli("weights", coarse, fine, "-o", tmp_path / "wrong.nc", "-q").exit_code == 0
    config, stores = experiment(), []
    options = {"own": [], "file": ["upscale.engine=file", "upscale.weights_file=w.nc"]}
    for name, overrides in options.items():
        given = [f"workspace={tmp_path / name}", *overrides]
        result = run_cli("prepare", config, *(part for one in given for part in ("--set", one)), "-q")
        assert result.exit_code == 0, result.output
        cfg = load_config(config, given)
        stores.append(PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split))
    one, other = (store.groups["RCM_A"].predictors("perfect", slice(0, 20)) for store in stores)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    before = names(tmp_path)
    wrong = ["workspace=third", "upscale.engine=file", "upscale.weights_file=wrong.nc"]
    result = run_cli("prepare", config, *(part for one in wrong for part in ("--set", one)), "-q")
    assert result.exit_code == 4 and "the grids have" in result.output, result.output
    assert not (tmp_path / "third" / "pairs.zarr").exists() and names(tmp_path) - before <= {"third"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("upscale.engine=file", "go together"),
        ("upscale.weights_file=w.nc", "go together"),
        ("upscale={to: GCM_A, engine: xesmf, edges: parallels}", "great circles"),
        ("upscale={to: {coarsen: 2}, edges: parallels}", "no meaning"),
        ("upscale.to={domain: EUR-13}", "close: EUR-12"),
    ],
)
def test_upscale_settings_that_make_no_sense_are_refused(experiment, setting, words):
    result = run_cli("prepare", experiment(), "--set", setting, "-q")
    assert result.exit_code == 2 and words in result.output, result.output


def test_the_conda_environment_brings_every_dependency():
    import tomllib

    from conftest import REPOSITORY
    from ruamel.yaml import YAML

    listed = YAML(typ="safe").load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    known = {entry.split(">")[0] for entry in listed} | {"torch"}
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    renamed = {"matplotlib": "matplotlib-base", "netCDF4": "netcdf4"}
    missing = {name for name in (entry.split(">")[0].split("[")[0] for entry in wanted) if renamed.get(name, name) not in known}
    assert not missing and {"xesmf", "esmpy", "pytorch"} <= known
