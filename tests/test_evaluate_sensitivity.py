"""Tables from the files of downscale explain: responses, importance of channels, and how far cases agree about them."""

from __future__ import annotations

import numpy as np
import pytest
from inputs_world import FINE, Group, make_context, rows_of, write_prediction, years_of

from downscale.apply.explained import Explanation, dataset_of, read_recipe, write_explanation
from downscale.evaluate.weather import sensitivity
from downscale.evaluate.weather.sensitivity import explain_file, explained_inputs
from downscale.grid.grid import Grid

CHANNELS = ("ta850", "hus850", "zg500")
PERTURBATIONS = {"temperature_plus_1K": "all temperatures 1 K higher", "humidity_plus_10pct": "specific humidity 10 % higher"}


def explanation(days, importance=(3.0, 2.0, 1.0), *, target="tasmax", unit="K", seed=0):
    """One target that answers 1 K to warmth and -0.5 K to humidity, with a little weather."""
    weather = 0.1 * np.random.default_rng(seed).standard_normal(len(days))
    attribution = np.zeros((1, 2, 3, 2, 2)) + np.array(importance)[:, None, None]
    return Explanation(
        np.asarray(days), "noleap", ["DJF", "ANN"], CHANNELS, [target], [unit], PERTURBATIONS, attribution, np.array([0.01]),
        np.ones((1, 2, 2, *FINE)), np.stack([1 + weather, -0.5 + weather])[None], np.full((1, len(days)), 4.0),
    )  # fmt: skip


@pytest.fixture
def world(tmp_path):
    """Predictions of a run on both kinds of a group, and a function that writes what explain found."""
    days = years_of(2000, 2004)
    fields = np.zeros((len(days), 1, 6, 6), np.float32)
    group = Group("R", days, {"perfect": fields, "imperfect": fields}, truth=np.full((len(days), 1, *FINE), 290.0, np.float32))
    for kind in group.kinds:
        write_prediction(tmp_path, "net", group, kind, days, np.full((len(days), *FINE), 291.0))
    context = make_context(tmp_path, [group])

    def write(kind, found, model="net-1"):
        prediction = next(one for one in context.predictions if one.kind == kind)
        dataset = dataset_of(found, coarse_of(context), context.store.fine)
        write_explanation(explain_file(tmp_path, prediction), dataset, {"downscale_model_id": model}, {"steps": 16})

    return context, days[::30], write


def coarse_of(context) -> Grid:
    return context.store.coarse.crop(slice(0, 2), slice(0, 2))


def test_responses_have_their_mean_and_an_interval_from_years(world):
    context, days, write = world
    write("perfect", explanation(days))
    sensitivity.diagnose(context)
    rows = {(row["perturbation"], row["season"]): row for row in rows_of(context, "sensitivity")}
    assert {season for _, season in rows} == {"ANN", "DJF", "MAM", "JJA", "SON"}
    warmer = rows["temperature_plus_1K", "ANN"]
    assert warmer["response"] == pytest.approx(1.0, abs=0.05)
    assert warmer["lower"] < warmer["response"] < warmer["upper"]
    assert warmer["upper"] - warmer["lower"] < 0.2
    assert (warmer["unit"], warmer["n_days"], warmer["n_years"]) == ("K", len(days), 5)
    assert np.isnan(warmer["relative"])
    assert rows["humidity_plus_10pct", "ANN"]["response"] == pytest.approx(-0.5, abs=0.05)


def test_importance_and_rank_of_the_channels(world):
    context, days, write = world
    write("perfect", explanation(days))
    sensitivity.diagnose(context)
    rows = rows_of(context, "attribution")
    assert [(row["channel"], row["rank"]) for row in rows] == [("ta850", 1), ("hus850", 2), ("zg500", 3)]
    assert [row["importance"] for row in rows] == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=1e-6)
    assert rows_of(context, "attribution_rank") == []


@pytest.mark.parametrize(("importance", "agreement"), [((30.0, 2.0, 1.0), 1.0), ((1.0, 2.0, 3.0), -1.0), ((2.0, 2.0, 2.0), np.nan)])
def test_how_far_two_cases_agree(world, importance, agreement):
    context, days, write = world
    write("perfect", explanation(days))
    write("imperfect", explanation(days, importance))
    sensitivity.diagnose(context)
    rows = rows_of(context, "attribution_rank")
    assert [(row["case"], row["other"], row["n_channels"]) for row in rows] == [("R/imperfect", "R/perfect", 3)]
    assert rows[0]["spearman"] == pytest.approx(agreement, nan_ok=True)


def test_two_years_have_no_interval(world):
    context, days, write = world
    write("perfect", explanation(days[days < 20020000]))
    sensitivity.diagnose(context)
    row = rows_of(context, "sensitivity")[0]
    assert np.isfinite(row["response"])
    assert np.isnan(row["lower"])
    assert np.isnan(row["upper"])


def test_another_training_of_the_same_name_is_said_and_left_out(world, caplog):
    context, days, write = world
    write("perfect", explanation(days), model="net-2")
    sensitivity.diagnose(context)
    assert not context.tables
    assert "run downscale explain again" in caplog.text


def test_without_files_there_are_no_tables_and_the_recipe_says_nothing(world):
    context, days, write = world
    sensitivity.diagnose(context)
    assert not context.tables
    assert explained_inputs(context.workspace, context.predictions) == {}
    write("perfect", explanation(days))
    before = explained_inputs(context.workspace, context.predictions)
    assert list(before["explained"]) == ["net/R_perfect"]
    write("perfect", explanation(days, seed=1))
    assert explained_inputs(context.workspace, context.predictions) != before


def test_the_recipe_of_a_file_is_read_again(world, tmp_path):
    context, days, write = world
    write("perfect", explanation(days))
    path = explain_file(context.workspace, next(one for one in context.predictions if one.kind == "perfect"))
    assert read_recipe(path) == {"steps": 16}
    assert read_recipe(tmp_path / "nothing.nc") is None
    path.write_bytes(b"x")
    assert read_recipe(path) is None
    assert not list(path.parent.glob("*.partial"))
