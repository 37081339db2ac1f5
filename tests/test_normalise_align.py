"""GCM predictors aligned with those that a run has learned from: the formulas by hand, the change kept, what is left alone."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pytest
from align_world import WINDOW, days_in, group_of, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from training_world import make_config, make_store

torch = pytest.importorskip("torch")

from downscale.apply import jobs, stage  # noqa: E402
from downscale.apply.adapt import AlignedGroup, Alignment, _around, align  # noqa: E402
from downscale.config.schema import ApplyConfig  # noqa: E402
from downscale.errors import InputDataError, OutputExistsError  # noqa: E402
from downscale.pairs.normalise import compute_monthly  # noqa: E402
from downscale.training import modes  # noqa: E402


def aligned_maps(method, gcm, rcmu, **options):
    alignment = align(method, WINDOW, (gcm, "imperfect"), [(rcmu, "perfect")], options.get("positive", [False]), gcm.days)
    return alignment(gcm.arrays["imperfect"], gcm.days), alignment


def by_month(group, kind, maps, first, last):
    year = group.days // 10000
    index = np.flatnonzero((year >= first) & (year <= last))
    held = group_of("x", maps[index], group.days[index], kind)
    found = compute_monthly([(held, kind)])
    return found.mean[[0, 6]], found.std[[0, 6]]


def test_the_mean_by_hand():
    days = days_in((2000,), (1,))
    gcm = group_of("G", np.arange(10.0).reshape(10, 1, 1, 1), days)  # mean 4.5
    rcmu = group_of("U", np.full((10, 1, 1, 1), 7.0), days, "perfect")
    alignment = align("mean", (2000, 2000), (gcm, "imperfect"), [(rcmu, "perfect")], [False], days)
    assert alignment(np.array([[[[5.5]]]]), np.array([20990101])).item() == pytest.approx(8.0)


def test_gcm_align_by_hand():
    """x = 10 in 2099: d = 6 - 0, x* = (10 - 6 - 0) / 2 * 3 + 100 + 6 = 112."""
    days = np.concatenate([days_in((2000,), (1,)), days_in((2099,), (1,))])
    wave = np.tile([-1.0, 1.0], 5).reshape(10, 1, 1, 1)
    gcm = group_of("G", np.concatenate([2 * wave, 6 + 2 * wave]), days)
    rcmu = group_of("U", 100 + 3 * wave, days[:10], "perfect")
    alignment = align("gcm_align", (2000, 2000), (gcm, "imperfect"), [(rcmu, "perfect")], [False], days)
    assert alignment(np.array([[[[10.0]]]]), np.array([20990101])).item() == pytest.approx(112.0)
    assert alignment(np.array([[[[2.0]]]]), np.array([20000101])).item() == pytest.approx(103.0)


@pytest.mark.parametrize("method", ["mean", "gcm_align"])
def test_the_window_gets_the_training_climate_and_the_change_stays_the_gcms(method):
    gcm, rcmu = pair()
    result, _ = aligned_maps(method, gcm, rcmu)
    before, after = gcm.arrays["imperfect"], result
    wanted = by_month(rcmu, "perfect", rcmu.arrays["perfect"], *WINDOW)
    got = by_month(gcm, "imperfect", after, *WINDOW)
    np.testing.assert_allclose(got[0], wanted[0], atol=2e-4)
    if method == "gcm_align":
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-3)
    else:
        np.testing.assert_allclose(got[1], by_month(gcm, "imperfect", before, *WINDOW)[1], rtol=1e-3)
    changes = [by_month(gcm, "imperfect", one, 2050, 2053)[0] - by_month(gcm, "imperfect", one, *WINDOW)[0] for one in (before, after)]
    np.testing.assert_allclose(changes[1], changes[0], atol=5e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-20, 20), factor=st.floats(0.3, 3))
def test_a_gcm_that_is_the_training_climate_scaled_and_shifted_is_given_back(seed, shift, factor):
    _, rcmu = pair(seed, years=(2000, 2001, 2002, 2003))
    maps = rcmu.arrays["perfect"].astype(float)
    mean = maps.mean(axis=0)
    gcm = group_of("G", mean + factor * (maps - mean) + shift, rcmu.days)
    result, _ = aligned_maps("gcm_align", gcm, rcmu)
    np.testing.assert_allclose(result, maps, atol=2e-3)


def test_only_training_days_within_the_window_count():
    gcm, rcmu = pair()
    first = aligned_maps("mean", gcm, rcmu)[0]
    outside = gcm.days // 10000 > 2003
    test = np.flatnonzero(gcm.days // 10000 == 2003)
    for group in (gcm, rcmu):
        group.splits["train"] = np.setdiff1d(np.arange(len(group.days)), test)
    kept = aligned_maps("mean", gcm, rcmu)[0]
    assert not np.allclose(first, kept)
    gcm.arrays["imperfect"][outside] += 50.0
    gcm.arrays["imperfect"][test] += 50.0
    again = aligned_maps("mean", gcm, rcmu)[0]
    np.testing.assert_array_equal(again[~outside][:60], kept[~outside][:60])


def test_missing_and_constant_cells_and_lower_bounds():
    gcm, rcmu = pair()
    gcm.arrays["imperfect"][3, 0, 0, 0] = np.nan
    rcmu.arrays["perfect"][:, 0, 0, 1] = np.nan
    gcm.arrays["imperfect"][:, 0, 1, 1], rcmu.arrays["perfect"][:, 0, 1, 1] = 5.0, 6.0
    result, _ = aligned_maps("gcm_align", gcm, rcmu)
    assert np.flatnonzero(np.isnan(result[:, 0, 0, 0])).tolist() == [3]
    assert np.isnan(result[:, 0, 0, 1]).all()
    np.testing.assert_allclose(result[:, 0, 1, 1], 6.0)
    assert result.dtype == np.float32
    gcm, rcmu = pair()
    for group in (gcm, rcmu):
        group.arrays[group.kinds[0]] -= 281.0
    assert (aligned_maps("gcm_align", gcm, rcmu)[0] < 0).any()
    clipped = aligned_maps("gcm_align", gcm, rcmu, positive=[True])[0]
    assert clipped.min() == 0.0


def test_the_change_runs_with_the_years():
    def around(years, length):
        return [(years[one][0], years[one][-1]) for one in _around(np.array(years), length)]

    assert around([2000, 2001, 2002, 2003], 4) == [(2000, 2003)] * 4
    assert around([2000, 2001, 2050, 2051, 2052], 3) == [(2000, 2001)] * 2 + [(2050, 2052)] * 3
    assert around(list(range(2000, 2006)), 3) == [(2000, 2002), (2000, 2002), (2001, 2003), (2002, 2004), (2003, 2005), (2003, 2005)]
    assert around([1999], 30) == [(1999, 1999)]


def test_a_trend_is_neither_stretched_nor_lost():
    """The GCM warms by 0.1 K a year and varies twice as much as RCMu: its weather is halved, its trend is not."""
    days = days_in(range(2000, 2060), (1,), 30)
    rng = np.random.default_rng(1)
    trend = 0.1 * (days // 10000 - 2000)
    gcm = group_of("G", (trend + 2.0 * rng.normal(size=len(days)))[:, None, None, None], days)
    rcmu = group_of("U", (trend + 1.0 * rng.normal(size=len(days)))[:, None, None, None], days, "perfect")
    alignment = align("gcm_align", (2000, 2019), (gcm, "imperfect"), [(rcmu, "perfect")], [False], days)
    result = alignment(gcm.arrays["imperfect"], days)[:, 0, 0, 0]
    year = days // 10000
    assert np.polyfit(year, result, 1)[0] == pytest.approx(0.1, abs=0.01)
    assert (result - np.array([result[year == one].mean() for one in year])).std() == pytest.approx(1.0, rel=0.2)


def test_a_window_without_days_enough_is_refused():
    gcm, rcmu = pair()
    with pytest.raises(InputDataError, match="fewer than 10 training days") as caught:
        align("mean", (1990, 1999), (gcm, "imperfect"), [(rcmu, "perfect")], [False], gcm.days)
    assert caught.value.code == 4
    assert caught.value.findings == ["G/imperfect: month(s) 1 (0), 7 (0)", "U/perfect: month(s) 1 (0), 7 (0)"]
    rcmu.splits["train"] = np.flatnonzero(rcmu.days // 100 % 100 == 7)
    with pytest.raises(InputDataError) as caught:
        align("mean", WINDOW, (gcm, "imperfect"), [(rcmu, "perfect")], [False], gcm.days)
    assert caught.value.findings == ["U/perfect: month(s) 1 (0)"]
    july = gcm.days[gcm.days // 100 % 100 == 7]
    assert isinstance(align("mean", WINDOW, (gcm, "imperfect"), [(rcmu, "perfect")], [False], july), Alignment)


def test_an_aligned_group_is_the_group_in_all_else():
    gcm, rcmu = pair()
    gcm.arrays["perfect"] = gcm.arrays["imperfect"] + 1
    _, alignment = aligned_maps("mean", gcm, rcmu)
    group = AlignedGroup(gcm, alignment)
    index = np.array([1, 5, 70])
    np.testing.assert_array_equal(group.predictors("imperfect", index), alignment(gcm.arrays["imperfect"][index], gcm.days[index]))
    np.testing.assert_array_equal(group.predictors("perfect", index), gcm.arrays["perfect"][index])
    assert (group.name, group.calendar, group.has_truth) == ("G", "noleap", True)
    assert group.days is gcm.days
    np.testing.assert_array_equal(group.scalars(index), gcm.scalars(index))
    with pytest.raises(AttributeError):
        _ = group.nothing


# --- the apply stage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Runs learned from RCM_A/perfect; the GCM that drives RCM_B is 5 units off."""
    store = make_store()
    for group in store.groups.values():
        group.attributes["notes"] = []
        type(group).notes = property(lambda self: [])
    store.groups["RCM_B"].arrays["imperfect"] = store.groups["RCM_B"].arrays["imperfect"] + np.float32(5.0)
    for module in (modes, jobs):
        monkeypatch.setattr(module.PairStore, "open", classmethod(lambda cls, *arguments: store))
    train = {"on": ["RCM_A/perfect"], "epochs": 1, "batch_size": 32, "baselines": ["ridge", "climatology"]}
    cfg = make_config(tmp_path, train=train, model={"name": "resunet", "width": 4, "backbone": "none", "dropout": 0.0})
    modes.train_run(cfg, device="cpu")
    return cfg, store


def with_align(cfg, method="mean", window=(2000, 2051)):
    return cfg.model_copy(update={"apply": ApplyConfig(align=method, align_window=list(window))})


def fields(path):
    with netCDF4.Dataset(path / "tas.nc") as file:
        return np.ma.filled(file["tas"][:], np.nan), file.__dict__


def test_apply_aligns_gcm_fields_and_says_so(workspace):
    cfg, store = workspace
    stage.apply_run(cfg, device="cpu")
    folder = cfg.workspace_path() / "predictions" / "ridge-RCM_A-perfect"
    plain = {name: fields(folder / name)[0] for name in ("RCM_A_perfect", "RCM_B_perfect", "RCM_B_imperfect")}
    manifest = json.loads((folder / "RCM_B_imperfect" / "prediction.json").read_text())
    assert "align" not in manifest["recipe"]
    chosen = with_align(cfg, "gcm_align")
    with pytest.raises(OutputExistsError) as caught:
        stage.apply_run(chosen, device="cpu")
    assert "align" in " ".join(caught.value.findings)
    stage.apply_run(chosen, device="cpu", overwrite=True)
    found, attributes = fields(folder / "RCM_B_imperfect")
    assert attributes["downscale_alignment"] == "gcm_align to RCM_A/perfect by month and cell, training days of 2000 to 2051"
    assert "downscale_alignment" not in fields(folder / "RCM_B_perfect")[1]
    for name in ("RCM_A_perfect", "RCM_B_perfect"):
        np.testing.assert_array_equal(fields(folder / name)[0], plain[name])
    manifest = json.loads((folder / "RCM_B_imperfect" / "prediction.json").read_text())
    assert manifest["recipe"]["align"]["to"] == ["RCM_A/perfect"]
    assert manifest["recipe"]["align"] == manifest["align"]
    climatology = json.loads((folder.parent / "climatology-RCM_A-perfect" / "RCM_B_imperfect" / "prediction.json").read_text())
    assert "align" not in climatology["recipe"]
    truth = store.groups["RCM_A"].arrays["target"][:, 0]
    bias = [abs(np.nanmean(one) - np.nanmean(truth)) for one in (plain["RCM_B_imperfect"], found)]
    assert bias[1] < 0.5 * bias[0]  # SCIENCE 5d, row 10
    assert "complete already" in stage.apply_run(chosen, device="cpu")["predictions"][0]


def test_pairs_that_a_run_has_learned_from_stay_and_foreign_runs_are_refused(workspace):
    cfg, store = workspace
    tuned = modes.train_run(cfg, mode="finetune", source_run="resunet-RCM_A-perfect", device="cpu")["artefact"]
    stage.apply_run(with_align(cfg), device="cpu")
    folder = cfg.workspace_path() / "predictions" / tuned.name
    said = {name: json.loads((folder / name / "prediction.json").read_text())["recipe"] for name in ("RCM_A_imperfect", "RCM_B_imperfect")}
    assert said["RCM_A_imperfect"]["align"]["to"] == ["RCM_B/imperfect"]
    assert "align" not in said["RCM_B_imperfect"]
    store.groups["RCM_A"].attributes["digest"] = "2"
    with pytest.raises(InputDataError, match="not in this workspace as they were"):
        stage.apply_run(with_align(cfg), runs=["ridge-RCM_A-perfect"], device="cpu")


def test_fields_can_be_aligned_with_the_rcmu_of_their_own_rcm(workspace):
    cfg, store = workspace
    chosen = cfg.model_copy(update={"apply": ApplyConfig(align="mean", align_to="own", align_window=[2000, 2051])})
    stage.apply_run(chosen, runs=["ridge-RCM_A-perfect"], device="cpu")
    folder = cfg.workspace_path() / "predictions" / "ridge-RCM_A-perfect"
    said = {name: json.loads((folder / f"{name}_imperfect" / "prediction.json").read_text())["align"]["to"] for name in ("RCM_A", "RCM_B")}
    assert said == {"RCM_A": ["RCM_A/perfect"], "RCM_B": ["RCM_B/perfect"]}
    rcmu, aligned = fields(folder / "RCM_B_perfect")[0], fields(folder / "RCM_B_imperfect")[0]
    assert abs(np.nanmean(aligned) - np.nanmean(rcmu)) < 0.1
    store.groups["RCM_B"].kinds = ("imperfect",)
    with pytest.raises(InputDataError, match="has no RCM run"):
        stage.apply_run(chosen, runs=["ridge-RCM_A-perfect"], device="cpu")


@pytest.mark.parametrize(
    "options",
    [
        {"align_to": "own"},
        {"align": "mean"},
        {"align_window": [2000, 2001]},
        {"align": "mean", "align_window": [2001, 2000]},
        {"align": "map"},
    ],
)
def test_half_an_alignment_is_refused(options):
    with pytest.raises(ValidationError):
        ApplyConfig(**options)
