"""prepare, end to end on files: what the store holds, re-runs, kills, refusals."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import run_cli

from downscale.cf.open import open_grid
from downscale.config.load import load_config
from downscale.grid.conservative import conservative_weights
from downscale.grid.grid import Grid
from downscale.pairs.store import PairStore


def open_store(config) -> PairStore:
    cfg = load_config(config)
    return PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)


def test_the_store_holds_exact_pairs(experiment, tiny_world):
    config = experiment()
    result = run_cli("prepare", config, "--json")
    assert result.exit_code == 0, result.output
    store = open_store(config)
    assert set(store.groups) == {"RCM_A", "RCM_B"} and store.channels == ["zg500", "ta850", "hus850", "ua850"]
    a, b = store.groups["RCM_A"], store.groups["RCM_B"]
    assert (a.calendar, len(a.days)) == ("standard", 1096) and (b.calendar, len(b.days)) == ("360_day", 1080)
    assert a.kinds == ("perfect", "imperfect") and a.has_truth
    (path,) = (tiny_world / "rcm" / "VGCM-A").glob("tasmax_*.nc")
    with xr.open_dataset(path) as dataset:
        window = load_config(config).domain.fine_box
        expected = dataset["tasmax"].isel(time=700)[window[2] : window[3], window[0] : window[1]].values
        field = dataset["tasmax"].isel(time=700).values
    grid = Grid.from_dataset(open_grid(path))
    np.testing.assert_array_equal(a.target(np.array([700]))[0, 0], expected)
    weights = conservative_weights(grid, store.coarse)  # the box is inside the relaxation zone, so dropping that changes nothing
    np.testing.assert_allclose(a.surface("perfect", np.array([700]))[0, 0], weights.apply(field[None])[0], rtol=1e-6)
    assert [len(a.split(name)) for name in ("train", "validation", "test")] == [365 - 5, 366, 365]
    assert np.isfinite(b.predictors("imperfect", slice(0, 50))).all()
    assert any("descending" in note for note in b.notes) and any("wrapped" in note for note in b.notes)
    assert any("brought to the training grid" in note for note in b.notes)


def test_running_again_does_nothing_and_another_recipe_is_refused(experiment):
    config = experiment()
    assert run_cli("prepare", config).exit_code == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in config.parent.rglob("*") if path.is_file())
    again = run_cli("prepare", config)
    assert again.exit_code == 0 and "nothing to do" in again.output
    assert before == sorted((path, path.stat().st_mtime_ns) for path in config.parent.rglob("*") if path.is_file())
    other = run_cli("prepare", config, "--set", "upscale.smooth=3")
    assert other.exit_code == 3 and "upscale.smooth: 1 -> 3" in other.output
    assert run_cli("prepare", config, "--set", "upscale.smooth=3", "--overwrite").exit_code == 0
    assert open_store(config).recipe["upscale"]["smooth"] == 3


def test_overwriting_keeps_the_old_store_until_the_new_one_is_whole(experiment, world_copy):
    config = experiment(data=world_copy)
    assert run_cli("prepare", config).exit_code == 0
    (path,) = (world_copy / "rcm" / "VGCM-A").glob("ta850_*.nc")
    with netCDF4.Dataset(path, "a") as dataset:
        dataset["ta850"][900:] = -5000.0
    assert run_cli("prepare", config, "--set", "upscale.smooth=3", "--overwrite").exit_code == 4
    assert open_store(config).recipe["upscale"]["smooth"] == 1


def test_another_split_needs_no_new_store(experiment):
    config = experiment()
    assert run_cli("prepare", config).exit_code == 0
    assert "nothing to do" in run_cli("prepare", config, "--set", "split.gap_days=0").output


def test_a_source_added_later_is_added_to_the_store(experiment):
    one = experiment(("  RCM_B: ", "  #"), ("  GCM_B: ", "  #"), ("finetune:", "#"), ("few_shot:", "#"))
    assert run_cli("prepare", one).exit_code == 0
    first = open_store(one).groups["RCM_A"].attributes["digest"]
    both = experiment()
    assert run_cli("prepare", both).exit_code == 0
    store = open_store(both)
    assert set(store.groups) == {"RCM_A", "RCM_B"} and store.groups["RCM_A"].attributes["digest"] == first


def test_dry_run_writes_nothing(experiment):
    config = experiment()
    result = run_cli("prepare", config, "--dry-run")
    assert result.exit_code == 0 and "would write" in result.output
    assert [path.name for path in config.parent.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_killed_and_started_again_the_store_is_the_same(experiment, number):
    config = experiment()
    assert run_cli("prepare", config, "--set", "workspace=whole").exit_code == 0
    code = (
        "import time, downscale.pairs.write as w, downscale.pairs.store as s\n"
        "s._SHARD_BYTES = s._CHUNK_BYTES = 2**18\n"
        "slow = w.store_shard\n"
        "w.store_shard = lambda *a: (slow(*a), print('block', flush=True), time.sleep(0.3))[0]\n"
        "from downscale.cli.app import app; app()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "prepare", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(3):
        assert process.stdout.readline().strip() == "block", process.stderr.read()
    process.send_signal(number)
    assert process.wait(timeout=30) == (75 if number == signal.SIGTERM else -9)
    assert not (config.parent / "results" / "pairs.zarr").exists() and (config.parent / "results" / "pairs.zarr.partial").exists()
    resumed = subprocess.run([sys.executable, "-c", code, "prepare", str(config)], capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 0, resumed.stderr
    whole, again = open_store_at(config, "whole"), open_store(config)
    assert not (config.parent / "results" / "pairs.zarr.partial").exists()
    for name, group in whole.groups.items():
        for kind in group.kinds:
            np.testing.assert_array_equal(group.predictors(kind, slice(None)), again.groups[name].predictors(kind, slice(None)))
        np.testing.assert_array_equal(group.target(slice(None)), again.groups[name].target(slice(None)))


def open_store_at(config, workspace) -> PairStore:
    cfg = load_config(config, [f"workspace={workspace}"])
    return PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)


def test_a_damaged_store_is_refused(experiment):
    config = experiment()
    assert run_cli("prepare", config).exit_code == 0
    chunk = next(
        path
        for path in (config.parent / "results" / "pairs.zarr" / "RCM_A" / "target_pr").rglob("*")
        if path.is_file() and path.name != "zarr.json"
    )
    chunk.write_bytes(chunk.read_bytes()[:-100])
    result = run_cli("train", config)
    assert result.exit_code == 4 and "damaged" in result.output


def test_grids_and_fixed_fields_are_one_file_and_stores_of_format_1_are_read_as_before(experiment):
    config = experiment()
    assert run_cli("prepare", config).exit_code == 0
    path, now = config.parent / "results" / "pairs.zarr", open_store(config)
    root = zarr.open_group(path, mode="r+")
    for name, grid in (("coarse", now.coarse), ("fine", now.fine)):
        for key, one in grid.to_coordinates().variables.items():
            array = root.create_array(f"grid/{name}/{key}", data=one.values, dimension_names=one.dims)
            array.attrs.update({key: value if isinstance(value, str) else np.asarray(value).tolist() for key, value in one.attrs.items()})
    for name, values in now.static.items():
        root.create_array(f"static/{name}", data=values)
    root.attrs["schema_version"] = 1
    (path / "grids.nc").unlink()
    before = open_store(config)
    for one, other in ((now.coarse, before.coarse), (now.fine, before.fine)):
        assert one.summary == other.summary and one.crs == other.crs
        np.testing.assert_array_equal(one.lat_corners, other.lat_corners)
    assert set(before.static) == {"orog", "sftlf"} and before.digest == now.digest
    np.testing.assert_array_equal(before.static["orog"], now.static["orog"])
    assert "nothing to do" in run_cli("prepare", config).output
    (path / "grids.nc").write_bytes(b"not a file of grids")
    refused(run_cli("train", config), 4, "the grids of the pair store cannot be read", "grids.nc")


# --- bad input: exit code, three lines, the file and what to do, nothing written ----------------------------------------------


@pytest.fixture
def world_copy(tiny_world, tmp_path):
    target = tmp_path / "copy"
    shutil.copytree(tiny_world, target, copy_function=lambda source, to: shutil.copyfile(source, to))
    return target


def refused(result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.output, (word, result.output)


def nothing_written(config) -> None:
    assert not (config.parent / "results").exists() or not any((config.parent / "results").iterdir())


def test_missing_variable(experiment, world_copy):
    (path,) = (world_copy / "rcm" / "VGCM-A").glob("zg500_*.nc")
    path.unlink()
    config = experiment(data=world_copy)
    refused(run_cli("prepare", config), 4, "zg500", "RCM_A")
    nothing_written(config)


def test_truncated_file_and_empty_file_are_listed_together(experiment, world_copy):
    (one,) = (world_copy / "rcm" / "VGCM-A").glob("ua850_*.nc")
    one.write_bytes(one.read_bytes()[: int(one.stat().st_size * 0.6)])
    (other,) = (world_copy / "rcm" / "VGCM-A").glob("hus850_*.nc")
    other.write_bytes(b"")
    config = experiment(data=world_copy)
    refused(run_cli("prepare", config), 4, one.name, other.name, "truncated", "empty")
    nothing_written(config)


def test_unequal_units_across_files(experiment, world_copy):
    (path,) = (world_copy / "rcm" / "VGCM-A").glob("ta850_*.nc")
    second = path.with_name(path.name.replace("19950101", "19980101"))
    shutil.copyfile(path, second)
    with netCDF4.Dataset(second, "a") as dataset:
        dataset["time"][:] = dataset["time"][:] + 1096
        if "time_bnds" in dataset.variables:
            dataset["time_bnds"][:] = dataset["time_bnds"][:] + 1096
        dataset["ta850"].units = "degC"
    config = experiment(data=world_copy)
    refused(run_cli("prepare", config), 4, "units", path.name, second.name)
    nothing_written(config)


def test_mixed_calendars_in_one_series(experiment, world_copy):
    (a,) = (world_copy / "rcm" / "VGCM-A").glob("ta850_*.nc")
    (b,) = (world_copy / "rcm" / "VGCM-B").glob("ta850_*.nc")
    shutil.copyfile(b, a.with_name("ta850_later.nc"))
    config = experiment(data=world_copy)
    refused(run_cli("prepare", config), 4, "calendar", "360_day", "standard")
    nothing_written(config)


def test_unequal_calendars_do_not_pair(experiment):
    config = experiment(("drives: RCM_A", "drives: X"), ("drives: RCM_B", "drives: RCM_A"), ("drives: X", "drives: RCM_B"))
    refused(run_cli("prepare", config), 4, "calendar", "360_day", "standard")
    nothing_written(config)


def test_lying_units_are_seen_by_the_range(experiment, world_copy):
    (path,) = (world_copy / "rcm" / "VGCM-A").glob("ta850_*.nc")
    with netCDF4.Dataset(path, "a") as dataset:
        dataset["ta850"].units = "degC"  # the numbers are kelvin
    config = experiment(data=world_copy)
    refused(run_cli("prepare", config), 4, "ta850", path.name)
    assert not (config.parent / "results" / "pairs.zarr").exists()


def test_a_box_that_the_rcm_does_not_cover(experiment):
    config = experiment()
    refused(run_cli("prepare", config, "--set", "domain.coarse_box=[-30, 40, -20, 40]"), 4, "covered")
    refused(run_cli("prepare", config, "--set", "domain.fine_box=[0, 12, 0, 12]"), 4, "outside")
    refused(run_cli("prepare", config, "--set", "domain.fine_box=[0, 1200, 0, 12]"), 2, "fine_box")
    nothing_written(config)


def test_overlapping_and_empty_splits(experiment):
    config = experiment()
    refused(run_cli("prepare", config, "--set", "split.test=[1995]"), 2, "train and test share")
    refused(run_cli("prepare", config, "--set", "split.test=[2050]"), 2, "test")
    nothing_written(config)


def test_unknown_key(experiment):
    refused(run_cli("prepare", experiment(("epochs: 2", "epoch: 2"))), 2, "did you mean 'epochs'")


def test_a_foreign_folder_in_the_way(experiment):
    config = experiment()
    (config.parent / "results" / "pairs.zarr").mkdir(parents=True)
    (config.parent / "results" / "pairs.zarr" / "thesis.txt").write_text("precious")
    refused(run_cli("prepare", config, "--overwrite"), 3, "not a pair store")
    assert (config.parent / "results" / "pairs.zarr" / "thesis.txt").exists()


def test_two_prepares_at_once(experiment):
    config = experiment()
    code = (
        "import time, downscale.pairs.write as w\nf = w.store_shard\n"
        "w.store_shard = lambda *a: (print('block', flush=True), time.sleep(60), f(*a))[-1]\n"
        "from downscale.cli.app import app; app()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "prepare", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline().strip() == "block", process.stderr.read()
        refused(run_cli("prepare", config), 3, str(process.pid))
    finally:
        process.kill()
        process.wait()
    time.sleep(0.1)
    assert run_cli("prepare", config).exit_code == 0  # the dead process's lock is recognised
