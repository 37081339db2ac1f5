"""The smaller pages: how predictors agree, and files against files under both profiles."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray as xr
from report_world import table
from test_report import Page

from downscale.cli.judging import command_of
from downscale.errors import InputDataError
from downscale.evaluate.files.judge import evaluate_files
from downscale.evaluate.scorecard import read_table
from downscale.report.files import make_files_report
from downscale.report.predictors import make_predictor_page

SHIFT = "case against paired channel season shift abs_shift log_std_ratio w1 correlation change_shift n_days n_days_reference"


def consistency_folder(folder, rows=True):
    folder.mkdir()
    (folder / "recipe.json").write_text("{}")
    if rows:
        place = ("B/imperfect", "B/perfect")
        table(folder, "predictor_shift", SHIFT, [
            (*place, 1, channel, season, shift, abs(shift), 0.1, abs(shift), 0.9, math.nan, 100, 100)
            for channel, shift in (("zg500", 0.2), ("hus850", -0.7)) for season in ("ANN", "JJA")
        ])  # fmt: skip
        table(folder, "reading", "case against topic light text", [
            (*place, "mean", "yellow", "mean: hus850 is farthest"), (*place, "summary", "yellow", "some inconsistency")
        ])  # fmt: skip
    return folder


def test_the_predictor_page_says_it_in_words_and_shows_the_channels(tmp_path):
    path = make_predictor_page(consistency_folder(tmp_path / "consistency"))
    assert path == tmp_path / "consistency" / "report" / "index.html"
    page = Page(path.read_text())
    assert not page.open and "http" not in path.read_text().replace("data:image", "")
    for phrase in (
        "yellow",
        "B/imperfect against B/perfect : some inconsistency",
        "mean: hus850 is farthest",
        "Predictor shift",
        "--predictors",
    ):
        assert phrase in page.text, phrase
    assert page.text.index("hus850: B/imperfect") < page.text.index("zg500: B/imperfect"), "the largest difference comes first"
    assert len(page.all("img")) == 1 and all(image["alt"] for image in page.all("img"))
    assert "ln of spread ratio" in page.text and "mean |ln ratio|" not in page.text, "a table of an earlier version"


def test_spreads_that_differ_both_ways_are_shown_as_such(tmp_path):
    folder = consistency_folder(tmp_path / "consistency")
    row = ("B/imperfect", "B/perfect", 1, "zg500", "ANN", 0.2, 0.2, 0.0, 0.69, 0.2, 0.9, math.nan, 100, 100)
    table(folder, "predictor_shift", SHIFT.replace("log_std_ratio", "log_std_ratio abs_log_std_ratio"), [row])
    page = Page(make_predictor_page(folder).read_text())
    assert "mean |ln ratio|" in page.text and "0.69" in page.text


def test_nothing_to_compare_is_said_and_no_folder_is_an_error(tmp_path):
    page = Page(make_predictor_page(consistency_folder(tmp_path / "consistency", rows=False)).read_text())
    assert "Nothing to compare" in page.text and not page.all("img")
    with pytest.raises(InputDataError, match="no comparison"):
        make_predictor_page(tmp_path / "nowhere")
    with pytest.raises(InputDataError, match="no scores"):
        make_files_report(tmp_path / "nowhere", tmp_path / "report")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A prediction that is 1 K too warm, on 8 x 8 cells and two years."""
    folder, generator = tmp_path_factory.mktemp("files"), np.random.default_rng(1)
    days = np.arange(730)
    truth = 285 + 8 * np.sin(2 * np.pi * days / 365)[:, None, None] + generator.standard_normal((730, 8, 8))
    coordinates = {
        "time": ("time", days, {"units": "days since 2001-01-01", "calendar": "noleap"}),
        "lat": ("lat", np.arange(40.0, 44.0, 0.5), {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", np.arange(5.0, 9.0, 0.5), {"units": "degrees_east", "standard_name": "longitude"}),
    }
    for name, values in (("truth", truth), ("prediction", truth + 1.0)):
        data = {"tasmax": (("time", "lat", "lon"), values.astype(np.float32), {"units": "K", "standard_name": "air_temperature"})}
        xr.Dataset(data, coordinates).to_netcdf(folder / f"{name}.nc")
    return folder


def test_files_get_a_page_with_scores_maps_and_seasons(files, tmp_path):
    command = "downscale evaluate --prediction p.nc --reference t.nc -o out --region 5,9,40,44"
    evaluate_files([files / "prediction.nc"], [files / "truth.nc"], tmp_path / "scores", command=command)
    path = make_files_report(tmp_path / "scores", tmp_path / "scores" / "report")
    page = Page(path.read_text())
    assert not page.open
    for phrase in (
        "Prediction against reference", "Mean tasmax", "mean |bias| of a grid point, K 1.00", "by season", "rmse 1 K, bias 1 K",
        "for percentiles and the Wasserstein distance",
        "the reference and the prediction on one scale", f"by {command}",
    ):  # fmt: skip
        assert phrase in page.text, phrase
    for phrase in ("on files", "files/prediction", ": files", "emulat", "learned", "test days", "truth"):
        assert phrase not in page.text.replace(command, ""), phrase
    assert {"data", "figures", "index.html"} == {one.name for one in path.parent.iterdir()}


def test_a_long_command_stands_once_on_the_page_and_an_old_recipe_says_what_it_can(files, tmp_path):
    names = [f"prediction_{year}.nc" for year in range(1950, 1990)]
    command = command_of({"prediction": names, "reference": ["t.nc"], "output": tmp_path, "profile": "mlbench", "common_days": True}, {})
    assert command.endswith(f"--reference t.nc -o {tmp_path} --profile mlbench --common-days")
    evaluate_files([files / "prediction.nc"], [files / "truth.nc"], tmp_path / "scores", profile="mlbench", command=command)
    text = make_files_report(tmp_path / "scores", tmp_path / "report").read_text()
    assert text.count("prediction_1989.nc") == 1 and text.count("prediction_1950.nc") > 1
    recipe = json.loads((tmp_path / "scores" / "recipe.json").read_text())
    assert recipe.pop("command") == command
    recipe["inputs"]["options"]["common_days"] = True
    (tmp_path / "scores" / "recipe.json").write_text(json.dumps(recipe))
    text = make_files_report(tmp_path / "scores", tmp_path / "report").read_text()
    assert "-o DIR --profile mlbench (common days True)" in text


def test_the_benchmark_page_has_its_names_and_says_what_differs(files, tmp_path):
    evaluate_files([files / "prediction.nc"], [files / "truth.nc"], tmp_path / "scores", profile="mlbench")
    path = make_files_report(tmp_path / "scores", tmp_path / "report")
    page = Page(path.read_text())
    for phrase in (
        "bias_mean, K 1.00",
        "rmse_time, K",
        "index_su_pred, days",
        "psd_pred, K²",
        "rmse_time 1 K, bias_mean 1 K",
        "wasserstein_spatial",
        "ratio_txx",
        "the benchmark’s code makes 0 of it",
        "Power spectrum of tasmax",
    ):
        assert phrase in page.text or phrase in path.read_text(), phrase
    images = page.all("img")
    assert len(images) >= 4 and len({figure["id"] for figure in page.all("figure")}) == len(images)
    with xr.open_dataset(path.parent / "data" / "mean_tasmax.nc") as dataset:
        np.testing.assert_allclose(dataset["bias_mean__tasmax__all"], 1.0, atol=1e-3)
        assert dataset["bias_mean__tasmax__all"].attrs["units"] == "K"
    assert json.loads((tmp_path / "scores" / "recipe.json").read_text())["profile"] == "mlbench"
    with xr.open_dataset(tmp_path / "scores" / "scores.nc", decode_timedelta=False) as dataset:
        units = {str(name): array.attrs["units"] for name, array in dataset.variables.items()}
    expected = {"rmse_time": "K", "relbias_mean": "1", "bias_su": "days", "psd_truth": "(K)2", "index_lag1_corr_pred": "1"}
    assert {name: units[f"{name}__tasmax__all"] for name in expected} == expected
    rows = {row["metric"]: row["unit"] for row in read_table(tmp_path / "scores" / "scores.csv")}
    assert rows["ralsd"] == "dB2" and {name: rows[name] for name in expected} == expected
