"""Predictions with members: reading every layout, and the rows that evaluate makes of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from evaluation_context import card_of, make_context, rows_of
from fake_workspace import make_workspace

from downscale.cf.calendar import encode_days
from downscale.errors import InputDataError
from downscale.evaluate.members import ensemble_scores
from downscale.evaluate.metrics.probabilistic import fair_crps, rank_counts
from downscale.evaluate.metrics.season_means import Bins
from downscale.evaluate.predictions import PredictionReader, count_members, find_predictions
from downscale.evaluate.selection import TimeTable
from downscale.variables import lookup

MEMBERS = 5
OURS = ("crps", "ensemble_", "spread_", "rank_", "brier_", "envelope_", "fss_")
FACTS = {"role": "emulator", "model": "resunet", "mode": "pretrain", "trained_on": ["RCM_A/perfect"], "digest": "e"}


def dataset_of(values, days, calendar, name, *, labels=None, attrs=None):
    """values (time, [member,] y, x) in working units."""
    dims = ("time", "realization", "y", "x") if values.ndim == 4 else ("time", "y", "x")
    row = lookup(name)
    factor = 1 / 86400 if name == "pr" else 1.0
    time = ("time", encode_days(days, calendar), {"units": "days since 1850-01-01", "calendar": calendar})
    coords = {"time": time} | ({"realization": ("realization", np.array(labels))} if labels else {})
    return xr.Dataset({name: (dims, (values * factor).astype(np.float32), {"units": row.file_units})}, coords=coords, attrs=attrs or {})


def write_ensemble(root, run, group, kind, days, members, *, layout="cf", labels=None):
    """members (member, time, variable, y, x); layout cf, zarr, or files (one a member and half of the days)."""
    folder = root / "predictions" / run / f"{group.name}_{kind}"
    folder.mkdir(parents=True)
    labels, files = labels or [str(one + 1) for one in range(len(members))], {}
    for position, name in enumerate(group.targets):
        values = np.moveaxis(members[:, :, position], 0, 1)
        files[name] = []
        if layout == "cf":
            dataset_of(values, days, group.calendar, name, labels=labels).to_netcdf(folder / f"{name}.nc")
            files[name] = [f"{name}.nc"]
        elif layout == "zarr":
            dataset = dataset_of(values, days, group.calendar, name, labels=labels)
            dataset.to_zarr(folder / "prediction.zarr", mode="a", zarr_format=2, consolidated=True)
            files[name] = ["prediction.zarr"]
        else:
            for half, part in enumerate(np.array_split(np.arange(len(days)), 2)):
                for place, label in enumerate(labels):
                    attrs = {"downscale_member": label}
                    path = folder / f"{name}_r{place + 1}_{half}.nc"
                    dataset_of(values[part, place], days[part], group.calendar, name, attrs=attrs).to_netcdf(path)
                    files[name].append(path.name)
    facts = {**FACTS, "run": run, "group": group.name, "kind": kind, "variables": list(group.targets), "files": files}
    (folder / "prediction.json").write_text(json.dumps(facts))


def world(root, *, layout="cf", years=(2000, 2001, 2002), members=MEMBERS, spread=1.0, labels=None, runs=("ridge-A", "climatology-A")):
    """A workspace whose truth and members of RCM_A are draws around one signal: tasmax normal, pr with dry days."""
    cfg, store = make_workspace(root, size=8, runs=runs, test=years)
    group, generator = store.groups["RCM_A"], np.random.default_rng(5)
    index = group.split("test")
    signal = group.truth.astype(float)
    noise = generator.standard_normal((members + 1, *signal[index].shape))
    noise[1:] *= spread
    draws = signal[index] + noise
    draws[:, :, 1] = np.maximum(draws[:, :, 1], 0)
    group.truth[index] = draws[0].astype(np.float32)
    write_ensemble(root, "net-samples", group, "perfect", group.days[index], draws[1:], layout=layout, labels=labels)
    return cfg, store, draws


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("ensembles")
    cfg, store, draws = world(root)
    context = make_context(root, cfg, store)
    ensemble_scores.diagnose(context)
    return context, store, draws, card_of(context)


@pytest.mark.parametrize("layout", ["cf", "files", "zarr"])
def test_every_member_of_every_layout_is_read(tmp_path, layout):
    _, store, draws = world(tmp_path, layout=layout, years=(2000,), runs=())
    group, (one,) = store.groups["RCM_A"], find_predictions(tmp_path / "predictions")
    days = group.days[group.split("test")]
    assert count_members(one, "pr") == MEMBERS
    for member in range(MEMBERS):
        with PredictionReader(one, "pr", days, group.calendar, member=member) as reader:
            assert reader.read(days=slice(170, 200)) == pytest.approx(draws[1 + member, 170:200, 1], abs=1e-4)
    with one.reader("pr", days, group.calendar) as reader:
        assert reader.read() == pytest.approx(draws[1, :, 1], abs=1e-4)


def test_fields_without_members_are_no_ensemble(finished):
    numbers = {one.run: count_members(one, "tasmax") for one in finished[0].predictions}
    assert numbers == {"ridge-A": 0, "climatology-A": 0, "net-samples": MEMBERS}


def plain(draws, store, metric):
    area = store.fine.areas()
    return float(np.average(metric, weights=np.broadcast_to(area, metric.shape)))


def test_rows_are_those_of_the_plain_functions(finished):
    _, store, draws, card = finished
    members, truth = draws[1:, :, 0].astype(np.float32), draws[0, :, 0].astype(np.float32)
    get = lambda metric, **more: card.value("net-samples", "RCM_A/perfect", "tasmax", metric, **more)  # noqa: E731
    assert get("crps") == pytest.approx(plain(draws, store, fair_crps(members, truth)), rel=1e-5)
    spread, error = members.var(axis=0, ddof=1), np.square(members.mean(axis=0) - truth)
    assert get("ensemble_spread") == pytest.approx(np.sqrt(plain(draws, store, spread)), rel=1e-5)
    assert get("ensemble_rmse") == pytest.approx(np.sqrt(plain(draws, store, error)), rel=1e-5)
    assert get("spread_skill") == pytest.approx(np.sqrt(1.2) * get("ensemble_spread") / get("ensemble_rmse"))
    group = store.groups["RCM_A"]
    summer = np.isin(group.days[group.split("test")] // 100 % 100, (6, 7, 8))
    assert get("crps", season="JJA") == pytest.approx(plain(draws, store, fair_crps(members[:, summer], truth[summer])), rel=1e-5)
    row = card.get("net-samples", "RCM_A/perfect", "tasmax", "crps")
    assert (row.unit, row.n_days, row.n_years, row.n_cells, row.interval) == ("K", 1096, 3, 64, "jackknife-t")
    assert row.lower < row.value < row.upper


def test_draws_of_one_distribution_are_reliable(finished):
    *_, card = finished
    get = lambda metric: card.value("net-samples", "RCM_A/perfect", "tasmax", metric)  # noqa: E731
    assert get("spread_skill") == pytest.approx(1.0, abs=0.02)
    assert get("rank_chi2") < 1e-3 and get("rank_outside") == pytest.approx(1.0, abs=0.02)
    assert get("rank_chi2_p") > 0.001
    assert get("envelope_coverage_expected") == pytest.approx(4 / 6) and get("envelope_above_expected") == pytest.approx(1 / 6)
    assert get("envelope_coverage") == pytest.approx(4 / 6, abs=0.12)
    assert get("crps") == pytest.approx(1 / np.sqrt(np.pi), rel=0.02)
    score = get("brier_p90")
    assert score == pytest.approx(get("brier_p90_reliability") - get("brier_p90_resolution") + get("brier_p90_uncertainty"), rel=1e-6)
    assert get("crpss_vs_ridge") > 0 and get("crpss_vs_climatology") > get("crpss_vs_ridge")


def test_an_ensemble_has_the_skill_of_its_crps_against_the_dressed_baseline(finished):
    *_, card = finished
    row = card.get("net-samples", "RCM_A/perfect", "pr", "crpss_vs_climatology", season="DJF")
    assert row.unit == "1" and row.lower < row.value < row.upper < 1
    ours, theirs = (
        card.value(run, "RCM_A/perfect", "pr", metric, season="DJF")
        for run, metric in (("net-samples", "crps"), ("climatology-A", "crps_dressed"))
    )
    assert row.value == pytest.approx(1 - ours / theirs)
    assert card.get("ridge-A", "RCM_A/perfect", "pr", "crps") is None


def test_the_rank_histogram_adds_up(finished):
    context, store, draws, _ = finished
    rows = [row for row in rows_of(context, "rank_histogram") if (row["variable"], row["season"]) == ("pr", "ANN")]
    counts = np.array([row["count"] for row in rows])
    assert len(rows) == MEMBERS + 1 and counts.sum() == pytest.approx(1096 * 64)
    area = store.fine.areas()
    expected = rank_counts(draws[1:, :, 1].astype(np.float32), draws[0, :, 1].astype(np.float32), area / area.mean())
    assert counts == pytest.approx(expected, rel=1e-4)
    assert {row["expected"] for row in rows} == {1096 * 64 / 6}


def test_reliability_is_near_the_diagonal(finished):
    rows = rows_of(finished[0], "reliability")
    events = {(row["variable"], row["threshold"], row["event"], row["unit"]) for row in rows}
    assert events == {("pr", amount, f"{amount:g}mm", "mm day-1") for amount in (1.0, 10.0, 20.0)} | {
        ("tasmax", 0.1, "p10", "quantile"),
        ("tasmax", 0.9, "p90", "quantile"),
    }
    for row in rows:
        if row["n"] > 3000 and row["variable"] == "tasmax":
            assert row["observed"] == pytest.approx(row["forecast"], abs=0.12)
    chosen = [row for row in rows if (row["variable"], row["event"]) == ("pr", "1mm")]
    assert sum(row["n"] for row in chosen) == 1096 * 64


def test_every_metric_stands_in_the_reference(finished):
    page = (Path(__file__).parents[1] / "docs" / "reference" / "metrics.md").read_text()
    names = {row.metric for row in finished[3].scores if row.metric.startswith(OURS)}
    assert len(names) > 30
    for name in names:
        name = re.sub(r"brier_[a-z0-9]+", "brier_EVENT", name)
        name = re.sub(r"crpss_vs_[a-z]+", "crpss_vs_MODEL", re.sub(r"fss_\d+mm_\d+", "fss_5mm_3", name))
        assert f"`{name}`" in page or f"`{name.removeprefix('brier_EVENT')}`" in page or f"`{name}` =" in page, name


def test_maps_are_written(finished):
    with xr.open_dataset(finished[0].folder / "ensembles.nc", group="net-samples__RCM_A_perfect") as maps:
        assert maps["tasmax__crps"].shape == (8, 8) and maps["pr__ensemble_spread"].attrs["units"] == "mm day-1"
        assert float(maps["tasmax__ensemble_spread"].mean()) == pytest.approx(1.0, abs=0.05)


def test_a_narrow_ensemble_is_found_out(tmp_path):
    cfg, store, _ = world(tmp_path, spread=0.3, layout="files", runs=())
    context = make_context(tmp_path, cfg, store)
    ensemble_scores.diagnose(context)
    card = card_of(context)
    get = lambda metric: card.value("net-samples", "RCM_A/perfect", "tasmax", metric)  # noqa: E731
    assert get("spread_skill") == pytest.approx(0.3 * np.sqrt(1.2 / (1 + 0.09 / 5)), rel=0.03)
    assert get("rank_outside") > 1.8 and get("rank_chi2_p") < 1e-4 and get("rank_chi2") > 0.5
    assert get("envelope_above") > 0.4


def test_missing_cells_are_nan_and_take_no_part(tmp_path):
    cfg, store, _ = world(tmp_path, years=(2000,), runs=("ridge-A",))
    group = store.groups["RCM_A"]
    group.truth[:, :, 2, 3] = np.nan
    context = make_context(tmp_path, cfg, store)
    ensemble_scores.diagnose(context)
    card = card_of(context)
    row = card.get("net-samples", "RCM_A/perfect", "tasmax", "crps")
    assert row.n_cells == 63 and np.isfinite(row.value) and row.interval == "none: 1 year"
    skill = card.get("net-samples", "RCM_A/perfect", "tasmax", "crpss_vs_ridge")
    assert np.isnan(skill.value) and skill.interval == "none: one year has no other year's residuals"
    with xr.open_dataset(context.folder / "ensembles.nc", group="net-samples__RCM_A_perfect") as maps:
        assert np.isnan(maps["tasmax__crps"].values[2, 3]) and np.isfinite(maps["tasmax__crps"].values).sum() == 63


@pytest.mark.parametrize("what", ["no truth anywhere", "perfect and constant"])
def test_nothing_to_score_is_nan_and_never_a_silent_number(tmp_path, what):
    cfg, store, draws = world(tmp_path, runs=())
    group = store.groups["RCM_A"]
    if what == "no truth anywhere":
        group.truth[:] = np.nan
    else:
        group.truth[:] = 280.0
        shutil.rmtree(tmp_path / "predictions" / "net-samples")
        index = group.split("test")
        write_ensemble(tmp_path, "net-samples", group, "perfect", group.days[index], np.full_like(draws[1:], 280.0))
    context = make_context(tmp_path, cfg, store)
    ensemble_scores.diagnose(context)
    card = card_of(context)
    row = card.get("net-samples", "RCM_A/perfect", "tasmax", "spread_skill")
    assert np.isnan([row.value, row.lower, row.upper]).all() and row.interval.startswith("none")
    crps, ranks = (card.value("net-samples", "RCM_A/perfect", "tasmax", metric) for metric in ("crps", "rank_chi2"))
    assert (np.isnan(crps) and np.isnan(ranks)) if what == "no truth anywhere" else (crps, ranks) == pytest.approx((0.0, 0.0))
    assert all(np.isnan(row.value) or row.n_cells for row in card.scores)


@pytest.mark.parametrize(("layout", "labels"), [("cf", ["1"]), ("files", ["only"])])
def test_a_single_member_is_nan_with_the_reason(tmp_path, layout, labels):
    cfg, store, _ = world(tmp_path, years=(2000,), members=1, layout=layout, labels=labels, runs=())
    context = make_context(tmp_path, cfg, store)
    ensemble_scores.diagnose(context)
    card = card_of(context)
    for metric in ("crps", "spread_skill", "rank_chi2", "envelope_coverage"):
        row = card.get("net-samples", "RCM_A/perfect", "pr", metric)
        assert np.isnan(row.value) and row.interval == "none: a single member", metric


def test_a_mean_with_its_spread_says_that_there_are_no_members(tmp_path):
    cfg, store, _ = world(tmp_path, years=(2000,), runs=("ridge-A",))
    (tmp_path / "predictions" / "ridge-A" / "RCM_A_perfect" / "spread").mkdir()
    context = make_context(tmp_path, cfg, store)
    ensemble_scores.diagnose(context)
    row = card_of(context).get("ridge-A", "RCM_A/perfect", "pr", "crps")
    assert np.isnan(row.value) and row.interval == "none: mean and spread are there, no members"


def test_without_truth_only_the_spread_is_described(tmp_path):
    cfg, store = make_workspace(tmp_path, size=8, runs=("ridge-A",), test=(2000,), lone_gcm=True)
    group, generator = store.groups["CNRM"], np.random.default_rng(0)
    members = 290 + 2 * generator.standard_normal((4, len(group.days), 2, 8, 8))
    write_ensemble(tmp_path, "net-samples", group, "imperfect", group.days, members)
    context = make_context(tmp_path, cfg, store)
    ensemble_scores.diagnose(context)
    card = card_of(context)
    row = card.get("net-samples", "CNRM/imperfect", "tasmax", "ensemble_spread", season="SON")
    assert row.value == pytest.approx(2.0, rel=0.02) and row.interval == "none: a description, not a score"
    assert card.get("net-samples", "CNRM/imperfect", "tasmax", "crps") is None


def test_members_on_another_grid_are_refused(tmp_path):
    _, store, _ = world(tmp_path, years=(2000,), runs=())
    group, (one,) = store.groups["RCM_A"], find_predictions(tmp_path / "predictions")
    context = SimpleNamespace(region=SimpleNamespace(area=np.ones((7, 8)), name="all"), store=store, options={}, predictions=[one])
    bins = Bins.of(TimeTable(group.days[group.split("test")], group.calendar))
    with pytest.raises(InputDataError, match="an ensemble has") as caught:
        next(ensemble_scores.Scorer(context, group, bins)._blocks(one, "pr", MEMBERS))
    assert caught.value.code == 4
