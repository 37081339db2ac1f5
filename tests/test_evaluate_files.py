"""evaluate --prediction ... --reference ...: values, refusals, regions, who works; each on files of a few cells."""

from __future__ import annotations

import csv
import json

import netCDF4
import numpy as np
import pytest
from conftest import run_cli
from judged_files import SHAPE, make_fields, make_pair, write_fields
from plain_mlbench import plain_scores

from downscale.cf.calendar import expected_days
from downscale.cli.judging import spell_out
from downscale.errors import EnvironmentMissingError, InputDataError, OutputExistsError
from downscale.evaluate.files.judge import Where, Work, evaluate_files
from downscale.evaluate.files.opened import FileOptions
from downscale.evaluate.scorecard import MapsFile, read_scores

THREADS = Work(workers=2)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"))


def _table(folder):
    with (folder / "scores.csv").open() as stream:
        return {row["key"]: row for row in csv.DictReader(stream)}


def _maps(folder):
    with netCDF4.Dataset(folder / "scores.nc") as file:
        return {name: np.ma.filled(file[name][:].astype(float), np.nan) for name in file.variables}


def test_mlbench_maps_and_numbers_are_what_loops_give(pair, tmp_path):
    pred, truth, prediction, reference, days = pair
    evaluate_files([pred], [truth], tmp_path / "out", profile="mlbench", work=THREADS)
    maps, table = _maps(tmp_path / "out"), _table(tmp_path / "out")
    for (name, variable, season), values in plain_scores(reference, prediction, days).items():
        key = f"{name}.{variable}.{season}"
        if name.startswith("correlation_"):
            key = f"multivar_corr.{variable}.{season}__{name}"
        tolerance = 0.01 if name.startswith("wasserstein") else 2e-6
        if np.ndim(values):
            np.testing.assert_allclose(maps[key.replace(".", "__")], values, rtol=tolerance, atol=tolerance, err_msg=key)
        else:
            assert float(table[key]["value"]) == pytest.approx(values, rel=tolerance, abs=1e-3), key
    bias = table["bias_mean.tasmax.all"]
    assert float(bias["value"]) == float(bias["mean_abs"]) and float(bias["mean"]) == pytest.approx(0.5, abs=0.02)
    assert bias["n_missing"] == "0" and bias["n_days"] == str(len(days))


def test_mlbench_names_are_those_of_the_benchmark(shared_reference, tmp_path):
    folder = shared_reference / "mlbench-metrics"
    if not folder.is_dir():
        pytest.skip(f"reference results are not here: {folder}")
    evaluate_files([folder / "plain_pred.nc"], [folder / "plain_truth.nc"], tmp_path / "out", profile="mlbench", work=THREADS)
    maps, table = _maps(tmp_path / "out"), _table(tmp_path / "out")
    with netCDF4.Dataset(folder / "plain_expected.nc") as file:
        theirs = {name for name in file.variables if "__" in name}
        assert theirs <= set(maps)
        for name in theirs:
            expected = np.ma.filled(file[name][:].astype(float), np.nan)
            tolerance = 0.01 if "wasserstein" in name else 5e-3 if "interannual" in name else 1e-3
            np.testing.assert_allclose(maps[name], expected, rtol=tolerance, atol=tolerance, err_msg=name)
    values = json.loads((folder / "plain_expected.json").read_text())["values"]
    assert set(values) <= set(table)
    for key, value in values.items():
        if isinstance(value, float):
            assert float(table[key]["value"]) == pytest.approx(value, rel=5e-3, abs=5e-3), key


def test_the_default_profile_gives_the_scores_of_a_workspace(pair, tmp_path):
    pred, truth, prediction, reference, days = pair
    summary = evaluate_files([pred], [truth], tmp_path / "out", work=THREADS)
    card = read_scores(tmp_path / "out")
    assert summary["days"] == len(days) and card.main_season == "ANN"
    area = np.cos(np.deg2rad(40.0 + 0.25 * np.arange(SHAPE[0])))[:, None] * np.ones(SHAPE)
    error = prediction["tasmax"].astype(float) - reference["tasmax"]
    mean = np.average(error.mean(axis=0), weights=area)
    assert card.value("prediction", "files/prediction", "tasmax", "bias") == pytest.approx(mean, abs=1e-4)
    rmse = np.average(np.sqrt((error**2).mean(axis=0)), weights=area)
    assert card.value("prediction", "files/prediction", "tasmax", "rmse") == pytest.approx(rmse, rel=1e-5)
    assert {"w1", "std_ratio", "txx"} <= {row.metric for row in card.scores if row.variable == "tasmax"}
    assert {"DJF", "JJA"} <= {row.season for row in card.scores}
    assert "tasmax__bias__ANN__all" in MapsFile(tmp_path / "out").read("prediction", "files/prediction")


def test_regions_are_a_box_a_mask_and_land(pair, tmp_path):
    pred, truth, *_ = pair
    for name, where in (
        ("box", Where(box=(5.0, 5.5, 40.0, 40.5))),
        ("mask", Where(mask=(_marked(tmp_path, "basin"), "basin"))),
        ("land", Where(land=_marked(tmp_path, "sftlf"))),
    ):
        summary = evaluate_files([pred], [truth], tmp_path / name, profile="mlbench", where=where, work=THREADS)
        assert summary["cells"] == 9, name
        rmse = _maps(tmp_path / name)["rmse_time__tasmax__all"]
        assert np.isfinite(rmse[:3, :3]).all() and np.isfinite(rmse).sum() == 9
        evaluate_files([pred], [truth], tmp_path / f"{name}-default", where=where, work=THREADS)
        rows = [row for row in read_scores(tmp_path / f"{name}-default").scores if row.metric == "bias"]
        assert {row.region for row in rows} == {where.name} and {row.n_cells for row in rows} == {9}
    with pytest.raises(InputDataError, match="holds no cell") as caught:
        evaluate_files([pred], [truth], tmp_path / "none", where=Where(box=(100.0, 110.0, -5.0, 5.0)))
    assert caught.value.code == 4


def _marked(folder, name):
    """A file that marks nine cells in the corner."""
    values = np.zeros(SHAPE, np.float32)
    values[:3, :3] = 100.0 if name == "sftlf" else 1.0
    with netCDF4.Dataset(folder / f"{name}.nc", "w") as file:
        for axis, length, start, units in (("lat", SHAPE[0], 40.0, "degrees_north"), ("lon", SHAPE[1], 5.0, "degrees_east")):
            file.createDimension(axis, length)
            field = file.createVariable(axis, "f8", (axis,))
            field.units, field[:] = units, start + 0.25 * np.arange(length)
        field = file.createVariable(name, "f4", ("lat", "lon"))
        field.units = "%" if name == "sftlf" else "1"
        field[:] = values
    return folder / f"{name}.nc"


def _refused(pred, truth, folder, match, **options):
    with pytest.raises(InputDataError, match=match) as caught:
        evaluate_files([pred], [truth], folder / "out", profile="mlbench", options=FileOptions(**options), work=THREADS)
    assert caught.value.code == 4 and len(caught.value.lines()) <= 3
    assert not (folder / "out").exists()
    return caught.value


def test_other_days_are_refused_with_both_axes_or_left_out_aloud(pair, tmp_path, caplog):
    _, truth, prediction, reference, days = pair
    fewer = write_fields(tmp_path / "fewer.nc", {name: values[10:] for name, values in prediction.items()}, days[10:])
    error = _refused(fewer, truth, tmp_path, "different days")
    assert "2000-01-01 to 2001-12-31, 731 days" in error.where and "2000-01-11" in error.where and "--common-days" in error.hint
    summary = evaluate_files([fewer], [truth], tmp_path / "some", profile="mlbench", options=FileOptions(common_days=True), work=THREADS)
    assert summary["days"] == 721 and "10 of the reference" in caplog.text
    expected = plain_scores({n: v[10:] for n, v in reference.items()}, {n: v[10:] for n, v in prediction.items()}, days[10:])
    rmse = expected["rmse_time", "tasmax", "all"]
    np.testing.assert_allclose(_maps(tmp_path / "some")["rmse_time__tasmax__all"], rmse, rtol=2e-6)
    later = np.asarray(expected_days(20100101, 20101231, "standard"))
    other = write_fields(tmp_path / "other.nc", make_fields(later), later)
    assert "none in common" in _refused(other, truth, tmp_path, "none in common", common_days=True).message


def test_other_calendars_cells_units_and_variables_are_refused(pair, tmp_path):
    _, truth, prediction, _, days = pair
    noleap = np.asarray(expected_days(20000101, 20011231, "noleap"))
    other = write_fields(tmp_path / "noleap.nc", make_fields(noleap), noleap, calendar="noleap")
    error = _refused(other, truth, tmp_path, "different calendars", common_days=True)
    assert "calendar standard" in error.where and "calendar noleap" in error.where
    moved = write_fields(tmp_path / "moved.nc", prediction, days, lat0=40.1)
    assert "0.1 degree" in _refused(moved, truth, tmp_path, "different grids").message
    smaller = write_fields(tmp_path / "smaller.nc", {name: values[:, 1:] for name, values in prediction.items()}, days, lat0=40.25)
    _refused(smaller, truth, tmp_path, "different grids")
    wrong = write_fields(tmp_path / "wrong.nc", prediction, days, units={"pr": "hPa"})
    assert "--assume-units" in str(_refused(wrong, truth, tmp_path, "hPa"))
    only = write_fields(tmp_path / "only.nc", {"pr": prediction["pr"]}, days)
    _refused(only, truth, tmp_path, "tasmax is not in both", variables=("tasmax",))
    warm = write_fields(tmp_path / "warm.nc", {"tasmax": prediction["tasmax"]}, days)
    _refused(only, warm, tmp_path, "no variable in common")
    assert evaluate_files([only], [truth], tmp_path / "one", profile="mlbench", work=THREADS)["variables"] == "pr"


def test_other_units_are_converted_and_said(pair, tmp_path):
    _, truth, prediction, _, days = pair
    celsius = {"tasmax": prediction["tasmax"] - np.float32(273.15), "pr": prediction["pr"] / np.float32(86400)}
    pred = write_fields(tmp_path / "celsius.nc", celsius, days, units={"tasmax": "degC", "pr": "kg m-2 s-1"})
    evaluate_files([pred], [truth], tmp_path / "out", profile="mlbench", work=THREADS)
    assert float(_table(tmp_path / "out")["bias_mean.tasmax.all"]["mean"]) == pytest.approx(0.5, abs=0.02)
    notes = json.loads((tmp_path / "out" / "recipe.json").read_text())["notes"]
    assert any("degC" in note for note in notes) and any("kg m-2 s-1" in note for note in notes)


def test_a_member_of_an_ensemble_is_asked_for(pair, tmp_path):
    _, truth, prediction, _, days = pair
    pred = write_fields(tmp_path / "members.nc", prediction, days, members=2)
    assert "--member" in str(_refused(pred, truth, tmp_path, "realization"))
    evaluate_files([pred], [truth], tmp_path / "out", profile="mlbench", options=FileOptions(member="1"), work=THREADS)
    assert "--member" in str(_refused(truth, truth, tmp_path / "x", "no variable has an ensemble dimension", member="1"))


def test_days_without_any_value_are_refused(pair, tmp_path):
    _, truth, prediction, _, days = pair
    broken = {name: values.copy() for name, values in prediction.items()}
    broken["pr"][100:102] = np.nan
    pred = write_fields(tmp_path / "broken.nc", broken, days)
    assert "2000-04-10" in _refused(pred, truth, tmp_path, "no value at all on 2 of the 731 days").where


def test_missing_cells_are_nan_and_constant_fields_are_told(pair, tmp_path):
    _, truth, prediction, _, days = pair
    holes = {name: values.copy() for name, values in prediction.items()}
    for values in holes.values():
        values[:, 2, 2] = np.nan
    pred = write_fields(tmp_path / "holes.nc", holes, days)
    evaluate_files([pred], [truth], tmp_path / "holes", profile="mlbench", work=THREADS)
    maps = _maps(tmp_path / "holes")
    assert all(np.isnan(values[2, 2]) for name, values in maps.items() if values.shape == SHAPE and name not in ("lat", "lon"))
    assert _table(tmp_path / "holes")["bias_mean.tasmax.all"]["n_missing"] == "1"
    evaluate_files([pred], [truth], tmp_path / "holes-default", work=THREADS)
    assert {row.n_cells for row in read_scores(tmp_path / "holes-default").scores if row.metric == "bias"} == {47}
    constant = write_fields(tmp_path / "constant.nc", {**prediction, "tasmax": np.full_like(prediction["tasmax"], 290.0)}, days)
    evaluate_files([constant], [truth], tmp_path / "constant", profile="mlbench", work=THREADS)
    row = _table(tmp_path / "constant")["index_lag1_corr_pred.tasmax.all"]
    assert row["value"] == "nan" and row["n_missing"] == "48"
    with pytest.raises(InputDataError, match="never change"):
        evaluate_files([constant], [truth], tmp_path / "constant-default", work=THREADS)


def test_one_winter_only(tmp_path):
    pred, truth, *_ = make_pair(tmp_path, 20001201, 20010228)
    evaluate_files([pred], [truth], tmp_path / "bench", profile="mlbench", work=THREADS)
    assert {row["season"] for row in _table(tmp_path / "bench").values()} == {"all", "winter"}
    evaluate_files([pred], [truth], tmp_path / "default", work=THREADS)
    card = read_scores(tmp_path / "default")
    assert card.main_season == "DJF" and all(not np.isfinite(row.lower) for row in card.scores if row.metric == "rmse")


@pytest.mark.parametrize("profile", ["mlbench", "default"])
def test_scratch_files_and_other_processes_change_nothing(pair, tmp_path, profile):
    pred, truth, *_ = pair
    for name, work in (("memory", Work(1)), ("scratch", Work(2, max_memory=1000)), ("processes", Work(2, scheduler="local"))):
        evaluate_files([pred], [truth], tmp_path / name, profile=profile, work=work)
        assert not list((tmp_path / name).glob(".*")) and not list(tmp_path.glob("*.partial"))
    one = (tmp_path / "memory" / "scores.csv").read_text()
    assert (tmp_path / "scratch" / "scores.csv").read_text() == one
    assert (tmp_path / "processes" / "scores.csv").read_text() == one


def test_a_running_dask_gives_the_same(pair, tmp_path):
    distributed = pytest.importorskip("distributed")
    pred, truth, *_ = pair
    evaluate_files([pred], [truth], tmp_path / "here", profile="mlbench", work=Work(1))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        work = Work(scheduler=cluster.scheduler_address)
        evaluate_files([pred], [truth], tmp_path / "there", profile="mlbench", work=work)
    assert (tmp_path / "there" / "scores.csv").read_text() == (tmp_path / "here" / "scores.csv").read_text()
    with pytest.raises(EnvironmentMissingError, match="neither an address"):
        evaluate_files([pred], [truth], tmp_path / "none", work=Work(scheduler=str(tmp_path / "none.json")))


def test_again_is_complete_already_and_another_recipe_is_refused(pair, tmp_path):
    pred, truth, *_ = pair
    evaluate_files([pred], [truth], tmp_path / "out", profile="mlbench", work=THREADS)
    assert evaluate_files([pred], [truth], tmp_path / "out", profile="mlbench", work=THREADS)["note"] == "complete already"
    with pytest.raises(OutputExistsError) as caught:
        evaluate_files([pred], [truth], tmp_path / "out", profile="mlbench", options=FileOptions(("pr",)), work=THREADS)
    assert any("variables" in line for line in caught.value.findings)
    again = evaluate_files([pred], [truth], tmp_path / "out", profile="mlbench", options=FileOptions(("pr",)), work=THREADS, overwrite=True)
    assert again["variables"] == "pr"


def test_the_command(pair, tmp_path):
    pred, truth, *_ = pair
    result = run_cli("evaluate", "--prediction", pred, "--reference", truth, "-o", tmp_path / "out", "--profile", "mlbench", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["summary"]["days"] == 731 and (tmp_path / "out" / "report" / "index.html").exists()
    for arguments, words in (
        (["--prediction", pred], "--reference, --output"),
        ([], "config or files"),
        (["config.yaml", "--reference", truth, "--prediction", pred], "not in this use"),
        (["--prediction", pred, "--reference", truth, "-o", tmp_path / "x", "--dry-run"], "--dry-run"),
        (["--prediction", pred, "--reference", truth, "-o", tmp_path / "x", "--region", "1,2,3"], "W,E,S,N"),
        (["--prediction", pred, "--reference", truth, "-o", tmp_path / "x", "--mask", "basins.nc"], "FILE:VARIABLE"),
        (["--prediction", pred, "--reference", truth, "-o", tmp_path / "x", "--assume-units", "pr"], "VAR=UNITS"),
    ):
        result = run_cli("evaluate", *arguments)
        assert result.exit_code == 2 and words in result.output.replace("\n", " "), (arguments, result.output)


def test_several_files_after_one_option(tmp_path):
    given = ["--prediction", "a", "b", "--reference", "c", "-o", "out", "--reference", "d", "e"]
    spelt = ["--prediction", "a", "--prediction", "b", "--reference", "c", "-o", "out", "--reference", "d", "--reference", "e"]
    assert spell_out(given) == spelt
    _, truth, prediction, reference, days = make_pair(tmp_path, 20000101, 20001231)
    parts = []
    for number, part in enumerate((slice(0, 100), slice(100, None))):
        parts.append(write_fields(tmp_path / f"part{number}.nc", {name: values[part] for name, values in prediction.items()}, days[part]))
    result = run_cli("evaluate", "--prediction", *parts, "--reference", truth, "-o", tmp_path / "out", "--profile", "mlbench")
    assert result.exit_code == 0, result.output
    rmse = np.sqrt(((prediction["tasmax"].astype(float) - reference["tasmax"]) ** 2).mean(axis=0))
    np.testing.assert_allclose(_maps(tmp_path / "out")["rmse_time__tasmax__all"], rmse, rtol=2e-6)
