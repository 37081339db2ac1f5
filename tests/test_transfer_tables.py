"""Transfer matrix, kinship, error split and signal following through a whole evaluation with known answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fake_workspace import make_config
from transfer_world import make_context, predict, small_store

from downscale.evaluate.metrics.bootstrap import resampling
from downscale.evaluate.scorecard import Score, Scorecard, number, read_table
from downscale.evaluate.stage import evaluate_store
from downscale.evaluate.transfer.error_split import split_bias, split_statistic
from downscale.evaluate.transfer.kinship import Kinship, diagnose
from downscale.evaluate.transfer.tables import NO_SCORE, NOTHING_LOST, recovery, transfer_matrix
from downscale.grid.interpolate import bilinear_weights

TASMAX = np.array([1.0, 0.0])[None, :, None, None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Scores of "net" (off by 0.5 K on RCMu and by 2 K on GCMs), "rcm" (the truth) and "gcm" (the GCM's own field)."""
    root = tmp_path_factory.mktemp("transfer")
    cfg, store = small_store(root)
    weights = bilinear_weights(store.coarse, store.fine)
    for name, group in store.groups.items():
        group.surfaces["imperfect"][group.days // 10000 > 2050, 0] += 1.5
        index = group.split("test")
        own = weights.apply(group.surface("imperfect", index).astype(np.float64))
        predict(root, store, name, "perfect", lambda truth: truth + 0.5 * TASMAX)
        predict(root, store, name, "imperfect", lambda truth: truth + 2.0 * TASMAX)
        predict(root, store, name, "imperfect", lambda truth: truth * 1.0, run="rcm")
        predict(root, store, name, "imperfect", lambda truth, own=own: np.where(np.isfinite(own), own, truth), run="gcm")
    evaluate_store(cfg, store)
    return root / "scores"


def rows_of(folder, table, **wanted):
    return [row for row in read_table(folder / f"{table}.csv") if all(row[key] == value for key, value in wanted.items())]


def test_the_bias_splits_into_gcm_and_emulator(finished):
    for row in rows_of(finished, "error_split", run="net", variable="tasmax", statistic="climatology_bias"):
        assert [number(row[key]) for key in ("total", "input", "emulator", "cross")] == pytest.approx([2.0, 1.5, 0.5, 0.0], abs=1e-4)
    change = rows_of(finished, "error_split", run="net", variable="tasmax", statistic="change_mean_bias")
    assert change and all(number(row["total"]) == pytest.approx(0.0, abs=1e-4) for row in change)


def test_every_split_adds_up(finished):
    rows = rows_of(finished, "error_split")
    assert {row["statistic"] for row in rows} >= {"climatology", "p99", "change_mean", "change_p99", "daily", "p99_bias", "change_p99_bias"}
    for row in rows:
        total, parts = number(row["total"]), sum(number(row[key]) for key in ("input", "emulator", "cross"))
        assert math.isclose(total, parts, rel_tol=1e-6, abs_tol=1e-6), row


def test_alpha_is_one_for_the_truth_and_nought_for_the_gcm(finished):
    """P99 of interpolated days is not quite the interpolated P99."""
    for season in ("ANN", "DJF", "JJA"):
        for statistic in ("mean", "p99"):
            alpha = {
                row["run"]: number(row["alpha"])
                for row in rows_of(finished, "signal", case="RCM_B/imperfect", variable="tasmax", season=season, statistic=statistic)
            }
            assert alpha["rcm"] == pytest.approx(1.0, abs=1e-4), (season, statistic)
            assert alpha["gcm"] == pytest.approx(0.0, abs=6e-2 if statistic == "p99" else 1e-4), (season, statistic)


def test_the_matrix_says_perfect_or_imperfect_and_home_or_hard(finished):
    found = {row["case"]: row for row in rows_of(finished, "transfer", emulator="net", variable="tasmax", season="ANN", metric="abs_bias")}
    assert {case: (row["pairing"], row["transfer"]) for case, row in found.items()} == {
        "RCM_A/perfect": ("perfect", "home"),
        "RCM_A/imperfect": ("imperfect", "home"),
        "RCM_B/perfect": ("perfect", "hard"),
        "RCM_B/imperfect": ("imperfect", "hard"),
    }
    assert number(found["RCM_B/imperfect"]["gap"]) == pytest.approx(1.5, abs=1e-4)
    periods = rows_of(
        finished, "transfer_periods", emulator="net", variable="tasmax", season="ANN", metric="abs_bias", case="RCM_A/perfect"
    )
    assert {row["period"]: row["transfer"] for row in periods} == {"2000": "home", "2095": "home"}


def test_cells_that_nobody_filled_are_listed_with_their_command(finished):
    rows = rows_of(finished, "transfer_missing", run="gcm")
    assert {row["case"] for row in rows} == {"RCM_A/perfect", "RCM_B/perfect"}
    assert rows[0]["command"] == "downscale apply CONFIG --run gcm --source RCM_A"


def test_the_bias_of_nothing_is_nan():
    hole = np.full((2, 2), np.nan)
    assert math.isnan(split_bias(hole, hole, hole, np.ones((2, 2))).total)
    one = split_bias(np.full((2, 2), 3.0), np.full((2, 2), 1.0), np.zeros((2, 2)), np.ones((2, 2)))
    assert (one.total, one.input, one.emulator, one.share_input) == pytest.approx((3.0, 2.0, 1.0, 0.8))
    flat = split_statistic(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), np.ones((2, 2)))
    assert flat.total == 0.0 and math.isnan(flat.share_input)


# --- kinship -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def context(tmp_path):
    cfg, store = small_store(tmp_path)
    for name in store.groups:
        predict(tmp_path, store, name, "imperfect", lambda truth: truth)
    return make_context(tmp_path, cfg, store)


def test_another_period_is_soft_and_another_gcm_hard(context):
    kinship = Kinship(context)
    run = next(one for one in context.predictions if one.group == "RCM_A")
    assert kinship.transfer(run, "RCM_A", [2000]) == "home" and kinship.transfer(run, "RCM_A", [2040]) == "soft"
    assert kinship.transfer(run, "RCM_A", [2000, 2040]) == "soft" and kinship.transfer(run, "RCM_B", [2000]) == "hard"
    assert [kinship.gcm(name) for name in ("RCM_A", "RCM_B", "CNRM")] == ["GCM_A", "GCM_B", "CNRM"]


def test_facets_say_which_gcm_is_behind_a_run(context, tmp_path):
    cfg = make_config(tmp_path)
    for name, facets in (("RCM_A", {"driving_source_id": "X"}), ("RCM_B", {"driving_source_id": "X"})):
        cfg.sources[name].facets.update(facets)
    again = make_context(tmp_path, cfg, context.store)
    kinship = Kinship(again)
    run = next(one for one in again.predictions if one.group == "RCM_A")
    assert kinship.gcm("RCM_B") == "X" and kinship.transfer(run, "RCM_B", [2000]) == "soft"
    diagnose(again)
    commands = {row["command"] for row in again.tables["transfer_missing"][1]}
    assert commands == {f"downscale apply CONFIG --run net --source {name}" for name in ("RCM_A", "RCM_B")}


def test_cells_without_data_are_not_counted_as_cells_of_the_spatial_correlation(tmp_path):
    cfg, store = small_store(tmp_path)
    store.groups["RCM_A"].truth[:, :, 1, 2] = np.nan
    predict(tmp_path, store, "RCM_A", "perfect", lambda truth: truth + 0.5 * TASMAX)
    evaluate_store(cfg, store)
    rows = rows_of(tmp_path / "scores", "scores", prediction="net", season="ANN", period="all", variable="tasmax")
    cells = {row["metric"]: int(row["n_cells"]) for row in rows}
    assert cells["spatial_correlation"] == cells["bias"] == math.prod(store.fine.shape) - 1


def test_no_share_of_a_skill_that_there_was_not_is_retained(context):
    run = [one for one in context.predictions if one.run == "net"]
    for base, ratio in ((-0.08, math.nan), (0.0, math.nan), (0.4, 1.5)):
        skill = [
            replace(score(case, value), metric="skill_vs_ridge") for case, value in (("RCM_A/perfect", base), ("RCM_B/imperfect", 0.6))
        ]
        row = next(row for row in transfer_matrix(Scorecard(skill, {}), run) if row["case"] == "RCM_B/imperfect")
        assert row["ratio"] == pytest.approx(ratio, nan_ok=True) and row["gap"] == pytest.approx(0.6 - base)


def test_without_a_score_nobody_says_that_nothing_was_lost(context):
    one = replace(next(one for one in context.predictions if one.group == "RCM_B"), role="emulator")
    case = one.case
    runs = [
        replace(one, run="zero", mode="pretrain", trained_on=("RCM_A/perfect",)),
        replace(one, run="full", mode="pretrain", trained_on=(case,)),
        replace(one, run="some", mode="few-shot", trained_on=(case,), adapted_to=(case,), source_run="zero"),
    ]
    assert {row["note"] for row in recovery(Scorecard([], {}), runs)} == {NO_SCORE}
    card = Scorecard([replace(score(case, value), prediction=run) for run, value in (("zero", 1.0), ("full", 1.0), ("some", 1.0))], {})
    notes = {(row["variable"], row["metric"]): row["note"] for row in recovery(card, runs)}
    assert notes["tasmax", "abs_bias"] == NOTHING_LOST and notes["tasmax", "w1"] == NO_SCORE


# --- the interval of a gap ---------------------------------------------------------------------------------------------------------


def score(case, value, lower=math.nan, upper=math.nan):
    return Score("net", case, "tasmax", "abs_bias", "all", "ANN", "all", value, lower, upper, "K", 360, 5, 4, "jackknife-t")


def test_cases_of_two_runs_add_their_half_widths(context):
    run = [one for one in context.predictions if one.run == "net"]
    card = Scorecard([score("RCM_A/perfect", 0.5, 0.2, 0.8), score("RCM_B/imperfect", 1.5, 1.1, 1.9)], {})
    row = next(row for row in transfer_matrix(card, run) if row["case"] == "RCM_B/imperfect")
    assert (row["gap_lower"], row["gap_upper"]) == pytest.approx((0.5, 1.5))


def test_cases_of_one_run_are_resampled_together(context):
    """Errors that rise and fall with the same years have a narrow gap."""
    run = [one for one in context.predictions if one.run == "net"]
    yearly = np.random.default_rng(0).uniform(0.0, 3.0, 12)
    scheme = resampling(np.zeros(12, np.int64))
    means = scheme.weights @ yearly / scheme.weights.sum(axis=1)
    draws = {
        ("net", case, "tasmax"): {("ANN", "all"): {"abs_bias": (scheme, means + extra)}}
        for case, extra in (("RCM_A/perfect", 0.0), ("RCM_A/imperfect", 1.0))
    }
    card = Scorecard([score("RCM_A/perfect", means[0], 0.0, 3.0), score("RCM_A/imperfect", means[0] + 1.0, 1.0, 4.0)], {})
    found = {row["case"]: row for row in transfer_matrix(card, run, None, draws)}
    assert (found["RCM_A/imperfect"]["gap_lower"], found["RCM_A/imperfect"]["gap_upper"]) == pytest.approx((1.0, 1.0))
    assert math.isnan(found["RCM_A/perfect"]["gap_lower"])
    without = {row["case"]: row for row in transfer_matrix(card, run)}
    assert math.isnan(without["RCM_A/imperfect"]["gap_lower"])


def test_a_whole_evaluation_keeps_what_gaps_need(tmp_path):
    """Five test years: the gap of a constant offset has an interval of no width, whatever the weather."""
    cfg, store = small_store(tmp_path, test=(2000, 2001, 2002, 2003, 2004))
    predict(tmp_path, store, "RCM_A", "perfect", lambda truth: truth + 0.5 * TASMAX)
    predict(tmp_path, store, "RCM_A", "imperfect", lambda truth: truth + 2.0 * TASMAX)
    predict(tmp_path, store, "RCM_B", "imperfect", lambda truth: truth + 2.0 * TASMAX)
    evaluate_store(cfg, store)
    wanted = {"emulator": "net", "variable": "tasmax", "season": "ANN", "metric": "rmse"}
    found = {row["case"]: row for row in rows_of(tmp_path / "scores", "transfer", **wanted)}
    home, away = found["RCM_A/imperfect"], found["RCM_B/imperfect"]
    assert [number(home[key]) for key in ("gap_lower", "gap_upper")] == pytest.approx([1.5, 1.5], abs=1e-3)
    assert number(away["gap_lower"]) <= 1.5 + 1e-3 and number(away["gap_upper"]) >= 1.5 - 1e-3
    assert math.isnan(number(found["RCM_A/perfect"]["gap_lower"]))


def test_one_winter_only_is_evaluated_with_stated_nans(tmp_path):
    cfg, store = small_store(tmp_path, test=(2000,))
    for group in store.groups.values():
        winter = np.flatnonzero(np.isin(group.days // 100, (200001, 200002)))
        group.days, group.truth = group.days[winter], group.truth[winter]
        group.fields = {kind: fields[winter] for kind, fields in group.fields.items()}
        group.surfaces = {kind: fields[winter] for kind, fields in group.surfaces.items()}
        group.splits = {"train": np.arange(20), "validation": np.arange(20, 25), "test": np.arange(25, len(winter))}
    predict(tmp_path, store, "RCM_A", "perfect", lambda truth: truth + 0.5 * TASMAX)
    predict(tmp_path, store, "RCM_B", "imperfect", lambda truth: truth + 2.0 * TASMAX)
    evaluate_store(cfg, store)
    folder = tmp_path / "scores"
    assert {row["season"] for row in rows_of(folder, "transfer")} == {"DJF"}
    assert all(math.isnan(number(row["gap_lower"])) for row in rows_of(folder, "transfer"))
    assert all(math.isnan(number(row["auc"])) and "none is left" in row["note"] for row in rows_of(folder, "separability"))
    assert all(math.isnan(number(row["slope"])) and row["note"] for row in rows_of(folder, "extrapolation_slope"))
    assert not rows_of(folder, "signal") and not rows_of(folder, "ensemble") and not rows_of(folder, "anova")
    lights = {row["rule"]: row["light"] for row in rows_of(folder, "light", case="RCM_B/imperfect")}
    assert lights["separability"] == "unknown" and lights["climate"] != "unknown" and lights["verdict"] != "unknown"
    assert {row["season"] for row in rows_of(folder, "consistency", run="net", case="RCM_A/perfect")} == {"DJF"}
