"""The virtual climate's files: layout, attributes, numbers, and what happens when something is in the way."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from downscale.errors import ConfigError, InputDataError, OutputExistsError
from downscale.virtual import stage, tasks, truth
from downscale.virtual.stage import CHANNELS, write_sample_data

SMOKE = ("zg500", "ta850", "hus850", "ua850", "tasmax", "pr")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("virtual") / "data"
    write_sample_data(directory, size="tiny", years=[(1999, 2000), (2090, 2090)], workers=2)
    return directory


def open_one(directory: Path, pattern: str) -> xr.Dataset:
    (path,) = directory.glob(pattern)
    with xr.open_dataset(path) as dataset:
        return dataset.load()


def test_layout(data):
    known = json.loads((data / "truth.json").read_text())
    assert sorted(entry["path"] for entry in known["files"]) == sorted(
        str(path.relative_to(data)) for path in data.rglob("*") if path.is_file() and path.name != "truth.json"
    )
    assert all((data / entry["path"]).stat().st_size == entry["bytes"] for entry in known["files"])
    assert len(list(data.glob("gcm/VGCM-A/*.nc"))) == 9 * 2
    assert len(list(data.glob("rcm/VGCM-B/*_day_*.nc"))) == len(CHANNELS) * 2
    assert (data / "rcm/VGCM-B/tas_VRT-59_VGCM-B_historical_r1i1p1f1_DWS_VRCM1_v1-r1_day_19990101-20001230.nc").exists()
    assert (data / "gcm/VGCM-A/ta_day_VGCM-A_ssp585_r1i1p1f1_gn_20900101-20901231.nc").exists()
    assert (data / "forcing.csv").read_text().splitlines()[0] == "year,GHG,solar"


def test_rcm_file(data):
    dataset = open_one(data, "rcm/VGCM-A/ta850_*_historical_*.nc")
    field = dataset["ta850"]
    assert field.dims == ("time", "rlat", "rlon") and field.dtype == np.float32
    assert (field.attrs["units"], field.attrs["standard_name"], field.attrs["cell_methods"]) == ("K", "air_temperature", "area: time: mean")
    assert float(dataset["plev"]) == 85_000.0 and dataset["plev"].dims == ()
    assert field.attrs["grid_mapping"] == "crs" and {"lat", "lon", "plev"} <= set(field.coords)
    assert dataset["crs"].attrs["earth_radius"] > 6e6 and dataset["crs"].attrs["grid_mapping_name"] == "rotated_latitude_longitude"
    assert dataset["lat"].attrs["bounds"] == "lat_vertices" and dataset["lat_vertices"].shape == (20, 20, 4)
    x, y = dataset["lon_vertices"].values, dataset["lat_vertices"].values
    area = 0.5 * np.sum(x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y, axis=-1)
    assert area.min() > 0, "vertices must run counter-clockwise"
    assert set(np.diff(dataset["time"].values).astype("timedelta64[h]").astype(int)) == {24}
    assert str(dataset["time"].values[0]).startswith("1999-01-01T12") and dataset["time"].size == 731
    assert str(dataset["time_bnds"].values[0, 0]).startswith("1999-01-01T00")
    for name in (
        "Conventions",
        "driving_source_id",
        "driving_variant_label",
        "domain_id",
        "frequency",
        "tracking_id",
        "variable_id",
        "source_id",
    ):
        assert dataset.attrs[name]
    for name in ("orog", "sftlf"):
        fixed = open_one(data, f"rcm/VGCM-A/{name}_*_historical_*_fx.nc")
        assert fixed[name].shape == (20, 20) and np.isfinite(fixed[name]).all()


def test_gcm_files(data):
    a, b = (open_one(data, f"gcm/VGCM-{letter}/ta_day_*_historical_*.nc") for letter in "AB")
    assert a["ta"].dims == ("time", "plev", "lat", "lon") and list(a["plev"].values) == [85_000.0, 70_000.0, 50_000.0]
    assert (np.diff(a["lat"]) > 0).all() and (np.diff(b["lat"]) < 0).all()
    assert a["lon"].min() < 0 and b["lon"].min() >= 0 and b["lon"].max() > 350
    assert a.time.dt.calendar == "proleptic_gregorian" and b.time.dt.calendar == "360_day"
    assert set(a["lon"].values % 2) == {1.0} and set(b["lon"].values % 2) == {0.0}
    for dataset in (a, b):
        for name in ("lat", "lon"):
            bounds = dataset[f"{name}_bnds"].values
            assert np.allclose(bounds.mean(axis=1), dataset[name]) and np.allclose(np.abs(bounds[:, 1] - bounds[:, 0]), 2.0)
        assert np.allclose(dataset["lat_bnds"].values[1:, 0], dataset["lat_bnds"].values[:-1, 1])
    # the equatorward side is the warm one in both layouts
    for dataset in (a, b):
        mean = dataset["ta"].isel(plev=0).mean(("time", "lon"))
        assert float(mean.sel(lat=dataset["lat"].min()) - mean.sel(lat=dataset["lat"].max())) > 5.0
    pr = open_one(data, "gcm/VGCM-B/pr_day_*_historical_*.nc")["pr"]
    assert pr.attrs["units"] == "kg m-2 s-1" and 0 < float(pr.mean()) * 86_400 < 10


def test_gcm_agrees_with_its_rcm_in_the_large_scale(data):
    gcm = (
        open_one(data, "gcm/VGCM-A/zg_day_*_historical_*.nc")["zg"]
        .sel(plev=50_000)
        .sel(lon=[3, 5], lat=[9, 11])
        .mean(("lat", "lon"))
        .values
    )
    rcm = open_one(data, "rcm/VGCM-A/zg500_*_historical_*.nc")["zg500"][:, 8:12, 8:12].mean(("rlat", "rlon")).values
    assert 0.93 < np.corrcoef(gcm, rcm)[0, 1] < 0.999


@pytest.mark.parametrize(("gcm", "first", "last"), [("VGCM-A", 1999, 2000), ("VGCM-B", 2090, 2090)])
def test_irreducible_error_is_the_error_of_the_best_prediction(data, gcm, first, last):
    known = truth.load(data)
    low, high = known["geometry"]["target_cells"]
    best = truth.best_prediction(data, gcm, first, last)
    numbers = next(value for key, value in known["irreducible"][gcm].items() if key.endswith(f"{first}-{last}"))
    for name, scale, tolerance in (("tas", 1.0, 0.02), ("tasmax", 1.0, 0.02), ("pr", 86_400.0, 0.1)):
        real = open_one(data, f"rcm/{gcm}/{name}_*_{first}*.nc")[name].values[:, low:high, low:high] * scale
        assert best[name].shape == real.shape
        rmse = np.sqrt(np.mean((real - best[name]) ** 2))
        assert rmse == pytest.approx(numbers[name]["rmse"], rel=tolerance)
        assert abs(np.mean(real - best[name])) < 0.1 * rmse
        assert 0.8 * numbers[name]["rmse"] < numbers[name]["mean_cell_rmse"] <= numbers[name]["rmse"]
        assert np.sqrt(real.var(axis=0).mean()) == pytest.approx(numbers[name]["total_sd"], rel=1e-3)
    assert np.mean(real < 1.0) == pytest.approx(numbers["pr"]["dry_share"], abs=0.002)
    assert np.percentile(real, 99) == pytest.approx(numbers["pr"]["p99"], rel=0.01)


def test_rain_has_dry_days_and_tails(data):
    for periods in truth.load(data)["irreducible"].values():
        for numbers in periods.values():
            assert 0.4 < numbers["pr"]["dry_share"] < 0.75
            assert 20.0 < numbers["pr"]["p99"] < 60.0
            assert 0.4 < numbers["pr"]["explained"] < 0.65
            assert numbers["tasmax"]["explained"] > 0.98 and 0.5 < numbers["tasmax"]["rmse"] < 0.7


def test_best_prediction_of_some_days_is_a_cut_of_all(data):
    every = truth.best_prediction(data, "VGCM-B", 1999, 2000)
    some = truth.best_prediction(data, "VGCM-B", 1999, 2000, days=np.array([19990230, 20000101]))
    rows = np.isin(every["days"], [19990230, 20000101])
    assert rows.sum() == 2 and np.array_equal(some["tas"], every["tas"][rows])
    with pytest.raises(InputDataError):
        truth.best_prediction(data, "VGCM-C", 1999, 2000)


def test_numbers_do_not_depend_on_workers_or_on_what_else_is_written(data, tmp_path):
    write_sample_data(tmp_path / "b", size="tiny", years=[(1999, 2000)], channels=["tasmax", "pr", "zg500"], workers=1)
    for pattern in ("rcm/VGCM-B/pr_*_historical_*.nc", "rcm/VGCM-A/tasmax_*_historical_*.nc", "rcm/VGCM-A/zg500_*_historical_*.nc"):
        here, there = open_one(tmp_path / "b", pattern), open_one(data, pattern)
        name = pattern.split("/")[-1].split("_")[0]
        assert np.array_equal(here[name].values, there[name].values)
    assert open_one(tmp_path / "b", "gcm/VGCM-A/zg_*.nc").sizes["plev"] == 1


def test_another_seed_is_another_world(data, tmp_path):
    write_sample_data(tmp_path / "s", size="tiny", years=[(1999, 1999)], channels=["tas"], gcms=1, workers=1, seed=1)
    ours = open_one(data, "rcm/VGCM-A/orog_*_historical_*_fx.nc")["orog"].values
    assert not np.allclose(open_one(tmp_path / "s", "rcm/VGCM-A/orog_*_fx.nc")["orog"].values, ours)


def test_packed_sample_is_small_and_close(data, tmp_path):
    summary = write_sample_data(
        tmp_path / "p", size="tiny", years=[(1999, 2000), (2090, 2090)], channels=SMOKE, gcms=1, packed=True, workers=1
    )
    assert summary["bytes"] < 5e6 and summary["days"] == 731 + 365
    assert sum(path.stat().st_size for path in (tmp_path / "p").rglob("*") if path.is_file()) < 5e6
    (path,) = (tmp_path / "p").glob("rcm/VGCM-A/tasmax_*_historical_*.nc")
    with netCDF4.Dataset(path) as raw:
        assert raw["tasmax"].dtype == np.int16
    for name, error in (("tasmax", 0.06), ("pr", 0.1 / 86_400), ("hus850", 4e-5), ("zg500", 0.6)):
        pattern = f"rcm/VGCM-A/{name}_*_historical_*.nc"
        assert np.abs(open_one(tmp_path / "p", pattern)[name].values - open_one(data, pattern)[name].values).max() < error


def small(directory: Path, **more) -> dict:
    return write_sample_data(directory, size="tiny", years=[(1999, 1999)], channels=["pr"], gcms=1, workers=1, **more)


def test_nothing_is_overwritten_unasked(tmp_path):
    small(tmp_path / "d")
    before = (tmp_path / "d" / "truth.json").read_text()
    with pytest.raises(OutputExistsError):
        small(tmp_path / "d")
    assert (tmp_path / "d" / "truth.json").read_text() == before
    (tmp_path / "d" / "mine.txt").write_text("keep")
    write_sample_data(tmp_path / "d", size="tiny", years=[(2090, 2090)], channels=["tas"], gcms=1, workers=1, overwrite=True)
    assert (tmp_path / "d" / "mine.txt").exists()
    assert not list((tmp_path / "d").rglob("pr_*")) and list((tmp_path / "d").rglob("tas_*"))


def test_foreign_folders_are_refused_even_with_overwrite(tmp_path):
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(OutputExistsError):
        small(tmp_path, overwrite=True)
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(OutputExistsError):
        small(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "truth.json"]


def test_paths_in_truth_cannot_lead_outside(tmp_path):
    (tmp_path / "outside.txt").write_text("keep")
    small(tmp_path / "d")
    known = json.loads((tmp_path / "d" / "truth.json").read_text())
    known["files"].append({"path": "../outside.txt", "bytes": 4})
    (tmp_path / "d" / "truth.json").write_text(json.dumps(known))
    small(tmp_path / "d", overwrite=True)
    assert (tmp_path / "outside.txt").exists()


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, values):
        raise OSError("disk full")

    monkeypatch.setattr(tasks.files.FieldFile, "append", fail)
    with pytest.raises(OSError, match="disk full"):
        small(tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == []


def test_an_interrupted_write_is_begun_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_remove", lambda directory, paths: None)
        patch.setattr(stage.truth, "forcing_csv", lambda first, last: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            small(tmp_path / "d")
    assert list((tmp_path / "d").rglob("*.nc")) and not (tmp_path / "d" / "truth.json").exists()
    small(tmp_path / "d")
    assert (tmp_path / "d" / "truth.json").exists() and not list((tmp_path / "d").rglob("*.partial"))


@pytest.mark.parametrize(
    "wrong", [{"gcms": 5}, {"gcms": 0}, {"channels": ["zg300"]}, {"channels": []}, {"size": "vast"}, {"workers": 0}, {"years": []}]
)
def test_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(ConfigError):
        write_sample_data(tmp_path / "d", **{"size": "tiny", **wrong})
    assert not (tmp_path / "d").exists()


def test_truth_of_another_version_is_refused(data, tmp_path):
    known = json.loads((data / "truth.json").read_text())
    known["physics"]["snow_cooling"] += 1.0
    (tmp_path / "truth.json").write_text(json.dumps(known))
    with pytest.raises(stage.EnvironmentMissingError):
        truth.best_prediction(tmp_path, "VGCM-A", 1999, 2000)
