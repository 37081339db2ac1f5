"""The evaluate stage on an in-memory pair store with prediction files of known errors."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import xarray as xr
from fake_workspace import FakeGroup, make_config, make_workspace, write_prediction

from downscale.cf.calendar import expected_days
from downscale.errors import ConfigError, InputDataError, OutputExistsError
from downscale.evaluate import blocks
from downscale.evaluate.metrics import indices
from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.scorecard import MapsFile, Scorecard, number, read_scores, read_table
from downscale.evaluate.stage import evaluate_store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(root, config, store, card) of an evaluated workspace."""
    root = tmp_path_factory.mktemp("workspace")
    cfg, store = make_workspace(root, size=12, runs=("resunet-A", "resunet-B", "resunet-A-few", "ridge-A", "bilinear-A"), lone_gcm=True)
    evaluate_store(cfg, store)
    return root, cfg, store, read_scores(root / "scores")


def _fields(root, run, case, name):
    with xr.open_dataset(root / "predictions" / run / case / f"{name}.nc", decode_times=False) as dataset:
        return dataset[name].values * (86400 if name == "pr" else 1)


def _mean(values, store):
    return float(np.average(values, weights=store.fine.areas()))


def test_scores_are_those_of_the_plain_functions(finished):
    root, _, store, card = finished
    group = store.groups["RCM_B"]
    truth = group.target(group.split("test"))[:, 1]
    found = _fields(root, "resunet-A", "RCM_B_imperfect", "pr")
    for name, expected in (
        ("rmse", metrics.rmse(found, truth)),
        ("bias", metrics.bias(found, truth)),
        ("abs_bias", np.abs(metrics.bias(found, truth))),
        ("w1", metrics.w1(found, truth)),
        ("correlation", metrics.correlation(found, truth)),
        ("p99_bias", indices.percentile(found, 0.99) - indices.percentile(truth, 0.99)),
        ("sdii", indices.sdii(found)),
        ("wet_day_frequency", indices.wet_day_frequency(found)),
    ):
        assert card.value("resunet-A", "RCM_B/imperfect", "pr", name) == pytest.approx(_mean(expected, store), rel=1e-4), name
    row = card.get("resunet-A", "RCM_B/imperfect", "pr", "rmse")
    assert (row.n_days, row.n_years, row.n_cells, row.unit, row.region, row.interval) == (720, 2, 144, "mm day-1", "all", "none: 2 years")


def test_seasons_and_periods_are_scored_apart(finished):
    root, _, store, card = finished
    group = store.groups["RCM_A"]
    days = group.days[group.split("test")]
    truth, found = group.target(group.split("test"))[:, 0], _fields(root, "resunet-A", "RCM_A_perfect", "tasmax")
    summer = np.isin(days // 100 % 100, (6, 7, 8)) & (days > 20900000)
    expected = _mean(metrics.rmse(found[summer], truth[summer]), store)
    assert card.value("resunet-A", "RCM_A/perfect", "tasmax", "rmse", season="JJA", period="2095") == pytest.approx(expected, rel=1e-5)


def test_skill_is_against_the_baseline_of_the_same_case(finished):
    card = finished[3]
    ours, ridge = (card.value(run, "RCM_A/perfect", "tasmax", "mse") for run in ("resunet-A", "ridge-A"))
    assert card.value("resunet-A", "RCM_A/perfect", "tasmax", "skill_vs_ridge") == pytest.approx(1 - ours / ridge)
    assert card.get("ridge-A", "RCM_A/perfect", "tasmax", "skill_vs_ridge") is None


def test_the_change_signal_is_future_minus_past(finished):
    _, _, store, card = finished
    group = store.groups["RCM_A"]
    days, truth = group.days[group.split("test")], group.target(group.split("test"))[:, 0]
    expected = truth[days > 20900000].mean(axis=0, dtype=float) - truth[days < 20900000].mean(axis=0, dtype=float)
    assert card.value("resunet-A", "RCM_A/perfect", "tasmax", "change_mean_reference", period="change") == pytest.approx(
        _mean(expected, store), rel=1e-4
    )
    assert card.value("resunet-A", "RCM_A/perfect", "tasmax", "change_mean_captured", period="change") == pytest.approx(1.0, abs=0.05)


def test_every_row_of_the_error_split_adds_up(finished):
    rows = read_table(finished[0] / "scores" / "error_split.csv")
    statistics = {"climatology", "p99", "change_mean", "change_p99"}
    assert {row["statistic"] for row in rows} == statistics | {f"{name}_bias" for name in statistics} | {"daily"}
    for row in rows:
        total, *parts = (number(row[name]) for name in ("total", "input", "emulator", "cross"))
        assert sum(parts) == pytest.approx(total, rel=1e-6, abs=1e-7)
    daily = next(
        row
        for row in rows
        if (row["run"], row["group"], row["variable"], row["statistic"], row["season"]) == ("resunet-A", "RCM_B", "pr", "daily", "ANN")
    )
    assert number(daily["total"]) == pytest.approx(finished[3].value("resunet-A", "RCM_B/imperfect", "pr", "mse"), rel=1e-6)


def test_the_other_gcm_is_farther_and_fine_tuning_helps(finished):
    root, _, _, card = finished
    shift = {
        (row["case"], row["against"]): number(row["abs_shift"])
        for row in read_table(root / "scores" / "predictor_shift.csv")
        if row["channel"] == "zg500" and row["season"] == "ANN"
    }
    assert shift["RCM_B/imperfect", "RCM_B/perfect"] > 2 * shift["RCM_A/imperfect", "RCM_A/perfect"]
    assert ("CNRM/imperfect", "RCM_A/perfect") in shift
    recovered = next(
        row for row in read_table(root / "scores" / "recovery.csv") if row["variable"] == "tasmax" and row["metric"] == "abs_bias"
    )
    assert recovered["adapted"] == "resunet-A-few" and 0.5 < number(recovered["recovered"]) < 1.1
    transfer = {
        (row["emulator"], row["case"]): row
        for row in read_table(root / "scores" / "transfer.csv")
        if row["metric"] == "abs_bias" and row["variable"] == "tasmax" and row["season"] == "ANN"
    }
    assert number(transfer["resunet-A", "RCM_B/imperfect"]["ratio"]) > 3
    assert card.value("resunet-A", "RCM_B/imperfect", "tasmax", "abs_bias") == pytest.approx(
        number(transfer["resunet-A", "RCM_B/imperfect"]["value"])
    )


def test_a_gcm_without_truth_is_described_beside_the_training_years(finished):
    _, _, store, card = finished
    group = store.groups["RCM_A"]
    assert card.value("resunet-A", "CNRM/imperfect", "tasmax", "mean") > 250
    assert card.get("resunet-A", "CNRM/imperfect", "tasmax", "rmse") is None
    expected = _mean(group.target(group.split("train"))[:, 0].mean(axis=0, dtype=float), store)
    assert card.value("truth", "RCM_A/truth", "tasmax", "mean", period="training") == pytest.approx(expected, rel=1e-6)


def test_maps_csv_and_netcdf_say_the_same(finished):
    root, _, store, card = finished
    maps = MapsFile(root / "scores").read("resunet-A", "RCM_A/perfect")
    assert maps["tasmax__bias__ANN__all"].attrs["units"] == "K" and maps["lat"].shape == (12, 12)
    assert _mean(maps["tasmax__bias__ANN__all"].values, store) == pytest.approx(
        card.value("resunet-A", "RCM_A/perfect", "tasmax", "bias"), rel=1e-4
    )
    with xr.open_dataset(root / "scores" / "scores.nc") as dataset:
        position = next(number for number, row in enumerate(card.scores) if row.metric == "w1" and row.variable == "pr")
        assert dataset["metric_label"].values[int(dataset["metric"][position])] == "w1"
        assert float(dataset["value"][position]) == pytest.approx(card.scores[position].value, rel=1e-8)
    assert card.recipe["main_season"] == "ANN" and card.recipe["drivers"] == {"RCM_A": "GCM_A", "RCM_B": "GCM_B"}


def test_again_is_complete_already_and_another_recipe_is_refused(finished, tmp_path):
    root, cfg, store, _ = finished
    before = (root / "scores" / "scores.csv").stat().st_mtime_ns
    assert evaluate_store(cfg, store)["note"] == "complete already"
    assert (root / "scores" / "scores.csv").stat().st_mtime_ns == before
    other = make_config(root, extra_gcm=True, evaluate={"wet_day_mm": 2.0})
    with pytest.raises(OutputExistsError) as caught:
        evaluate_store(other, store)
    assert caught.value.findings == ["evaluate.wet_day_mm: 1.0 -> 2.0"]


@pytest.mark.slow
def test_blocks_of_rows_give_what_one_block_gives(tmp_path, monkeypatch):
    cfg, store = make_workspace(tmp_path, size=10, runs=("resunet-A", "ridge-A"))
    evaluate_store(cfg, store)
    whole = read_scores(tmp_path / "scores").scores
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 731 * 10 * 4 * 3)
    evaluate_store(cfg, store, overwrite=True)
    parts = read_scores(tmp_path / "scores").scores
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        assert (one.prediction, one.case, one.metric, one.n_cells) == (other.prediction, other.case, other.metric, other.n_cells)
        assert other.value == pytest.approx(one.value, rel=1e-5, abs=1e-7, nan_ok=True)


def _small(tmp_path):
    cfg, store = make_workspace(tmp_path, size=8, runs=("resunet-A",), test=(2000,))
    group = store.groups["RCM_A"]
    shutil.rmtree(tmp_path / "predictions")
    return cfg, store, group, group.split("test")


def test_missing_days_are_an_error_with_both_axes(tmp_path):
    cfg, store, group, index = _small(tmp_path)
    write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index[:-5]], group.target(index[:-5]))
    with pytest.raises(InputDataError, match="lacks 5 of the 366 days") as caught:
        evaluate_store(cfg, store)
    assert caught.value.findings == [
        "prediction: 20000101 to 20001226, 361 days, calendar standard",
        "truth: 20000101 to 20001231, 366 days, calendar standard",
    ]
    assert not (tmp_path / "scores").exists() and not (tmp_path / "scores.partial").exists()


def test_another_calendar_is_an_error(tmp_path):
    cfg, store, group, index = _small(tmp_path)
    days = expected_days(20000101, 20001231, "noleap")
    write_prediction(tmp_path, "resunet-A", group, "perfect", days, group.target(index[:365]), calendar="noleap")
    with pytest.raises(InputDataError, match="another calendar"):
        evaluate_store(cfg, store)


def test_days_are_matched_by_label_not_by_position(tmp_path):
    cfg, store, group, _ = _small(tmp_path)
    everything = np.arange(len(group.days))
    write_prediction(tmp_path, "resunet-A", group, "perfect", group.days, group.target(everything))
    evaluate_store(cfg, store)
    assert read_scores(tmp_path / "scores").value("resunet-A", "RCM_A/perfect", "tasmax", "rmse") == pytest.approx(0.0, abs=1e-4)


def test_a_field_that_never_changes_is_an_error(tmp_path):
    cfg, store, group, index = _small(tmp_path)
    constant = np.repeat(group.target(index[:1]), len(index), axis=0)
    write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index], constant)
    with pytest.raises(InputDataError, match="never change") as caught:
        evaluate_store(cfg, store)
    assert len(caught.value.findings) == 2


def test_another_grid_and_another_unit_are_errors(tmp_path):
    cfg, store, group, index = _small(tmp_path)
    folder = write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index], group.target(index)[:, :, :-1])
    with pytest.raises(InputDataError, match=r"\(7, 8\) cells"):
        evaluate_store(cfg, store)
    write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index], group.target(index))
    with xr.open_dataset(folder / "tasmax.nc", decode_times=False) as dataset:
        changed = dataset.load()
    changed["tasmax"].attrs["units"] = "degF"
    changed.to_netcdf(folder / "tasmax.nc")
    with pytest.raises(InputDataError, match="degF"):
        evaluate_store(cfg, store)


def test_no_predictions_and_a_broken_manifest_say_so(tmp_path):
    cfg, store, group, index = _small(tmp_path)
    with pytest.raises(InputDataError, match="no predictions"):
        evaluate_store(cfg, store)
    folder = write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index], group.target(index))
    (folder / "prediction.json").write_text(json.dumps({"run": "x"}))
    with pytest.raises(InputDataError, match="cannot be used"):
        evaluate_store(cfg, store)


def test_targets_the_pairs_do_not_have_are_a_config_error(tmp_path):
    cfg, store, group, index = _small(tmp_path)
    folder = write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index], group.target(index))
    manifest = json.loads((folder / "prediction.json").read_text())
    (folder / "prediction.json").write_text(json.dumps({**manifest, "variables": ["tasmax", "tas"]}))
    with pytest.raises(ConfigError, match="tas"):
        evaluate_store(cfg, store)


def test_land_only_scores_land_only(tmp_path):
    _, store, group, index = _small(tmp_path)
    land = np.asarray(store.static["sftlf"]) >= 50
    fields = group.target(index) + np.where(land, 1.0, 9.0).astype(np.float32)
    write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index], fields)
    evaluate_store(make_config(tmp_path, test=["2000"], evaluate={"region": "land"}), store)
    row = read_scores(tmp_path / "scores").get("resunet-A", "RCM_A/perfect", "tasmax", "bias")
    assert row.value == pytest.approx(1.0, abs=1e-3) and row.n_cells == land.sum() and row.region == "land"
    store.static = {}
    with pytest.raises(InputDataError, match="land fraction"):
        evaluate_store(make_config(tmp_path, test=["2000"], evaluate={"region": "land"}), store, overwrite=True)
    assert (tmp_path / "scores" / "scores.csv").exists()


def test_sea_without_truth_is_left_out(tmp_path):
    cfg, store, group, index = _small(tmp_path)
    group.truth[:, :, 2:4, 5] = np.nan
    fields = np.nan_to_num(group.target(index), nan=270.0) + np.float32(0.5)
    write_prediction(tmp_path, "resunet-A", group, "perfect", group.days[index], fields)
    evaluate_store(cfg, store)
    card = read_scores(tmp_path / "scores")
    row = card.get("resunet-A", "RCM_A/perfect", "tasmax", "bias")
    assert row.value == pytest.approx(0.5, abs=1e-4) and row.n_cells == 62
    assert card.get("resunet-A", "RCM_A/perfect", "tasmax", "log_spectral_distance") is None


def test_winters_only_without_a_gcm_have_one_season_and_intervals(tmp_path):
    cfg, store = winters(tmp_path)
    evaluate_store(cfg, store)
    card = read_scores(tmp_path / "scores")
    assert card.main_season == "DJF" and {row.season for row in card.scores} == {"DJF"}
    row = card.get("resunet-A", "RCM_A/perfect", "tasmax", "rmse")
    assert row.interval == "jackknife-t" and row.lower <= row.value <= row.upper and row.n_years == 5
    assert math.isfinite(card.get("resunet-A", "RCM_A/perfect", "pr", "abs_p99_bias").upper)
    assert read_table(tmp_path / "scores" / "error_split.csv") == [] and read_table(tmp_path / "scores" / "recovery.csv") == []


def winters(root):
    """A workspace like the real Iberian case: winters only, RCMu only, and a lone GCM without truth."""
    _, store = make_workspace(root, size=10, runs=("resunet-A",), lone_gcm=True, test=(1998, 1999, 2000, 2001, 2002))
    shutil.rmtree(root / "predictions")
    del store.groups["RCM_B"]
    for name, group in list(store.groups.items()):
        keep = np.flatnonzero(np.isin(group.days // 100 % 100, (1, 2)))
        splits = {key: np.flatnonzero(np.isin(keep, index)) for key, index in group.splits.items()}
        kinds = ("perfect",) if group.has_truth else ("imperfect",)
        store.groups[name] = FakeGroup(
            name,
            group.calendar,
            group.days[keep],
            kinds,
            group.targets,
            group.truth[keep] if group.has_truth else None,
            {kind: group.fields[kind][keep] for kind in kinds},
            {kind: group.surfaces[kind][keep] for kind in kinds},
            splits,
        )
    truth = store.groups["RCM_A"]
    index = truth.split("test")
    generator = np.random.default_rng(3)
    for run, size in (("resunet-A", 0.5), ("ridge-A", 1.0)):
        noisy = np.maximum(truth.target(index) + size * generator.standard_normal((len(index), 2, 10, 10)), 0).astype(np.float32)
        write_prediction(root, run, truth, "perfect", truth.days[index], noisy)
        lone = store.groups["CNRM"]
        write_prediction(root, run, lone, "imperfect", lone.days, np.resize(noisy, (len(lone.days), 2, 10, 10)))
    return make_config(root, test=["1998-2002"], extra_gcm=True, year_starts=12), store


def test_a_card_without_a_row_says_nan():
    assert math.isnan(Scorecard([], {}).value("a", "b", "c", "d"))
