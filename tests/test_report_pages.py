"""The smaller pages: how predictors agree, and files against files under both profiles."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray as xr
from report_world import table
from test_report import Page

from downscale.errors import InputDataError
from downscale.evaluate.files.judge import evaluate_files
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
    evaluate_files([files / "prediction.nc"], [files / "truth.nc"], tmp_path / "scores")
    path = make_files_report(tmp_path / "scores", tmp_path / "scores" / "report", command="downscale evaluate --prediction p.nc")
    page = Page(path.read_text())
    assert not page.open
    for phrase in ("Prediction against reference", "Mean tasmax", "mean |bias| of a grid point, K 1.00", "by season", "--prediction p.nc"):
        assert phrase in page.text, phrase
    assert {"data", "figures", "index.html"} == {one.name for one in path.parent.iterdir()}


def test_the_benchmark_page_has_its_names_and_says_what_differs(files, tmp_path):
    evaluate_files([files / "prediction.nc"], [files / "truth.nc"], tmp_path / "scores", profile="mlbench")
    path = make_files_report(tmp_path / "scores", tmp_path / "report")
    page = Page(path.read_text())
    for phrase in (
        "bias_mean 1.00",
        "rmse_time",
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
    assert json.loads((tmp_path / "scores" / "recipe.json").read_text())["profile"] == "mlbench"
