"""How far days are from the training days: known answers in a Gaussian world, warming seen, the run folder, exit 7."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2, kstest
from training_world import make_config, make_group, make_store

torch = pytest.importorskip("torch")

from downscale.apply import trust  # noqa: E402
from downscale.apply.trust import Novelty, judge, line, summary  # noqa: E402
from downscale.errors import InputDataError, TransferabilityError  # noqa: E402
from downscale.models.registry import build  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.distance import Distance, fit_distance  # noqa: E402
from downscale.training.novelty import NoveltyModel, fit_novelty, network_features  # noqa: E402
from downscale.training.reading import Portion  # noqa: E402
from downscale.training.run import load_run  # noqa: E402

PATTERNS = np.random.default_rng(3).standard_normal((8, 60))


def gaussian_days(n, seed, shift=0.0, noise=0.3):
    """Vectors of eight patterns and a little noise, and two numbers."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 8)) @ PATTERNS + noise * rng.standard_normal((n, 60)) + shift
    return vectors.astype(np.float32), rng.standard_normal((n, 2)).astype(np.float32)


# --- the distance ------------------------------------------------------------------------------------------------------------


def test_squared_distances_of_gaussian_days_are_chi_square():
    distance = fit_distance(gaussian_days(6000, 0, noise=0), gaussian_days(3000, 1, noise=0))
    assert distance.freedom == 8 + 2
    squared = distance(*gaussian_days(4000, 2, noise=0)) ** 2
    assert squared.mean() == pytest.approx(10, rel=0.03)
    assert squared.var() == pytest.approx(20, rel=0.1)
    assert kstest(squared, chi2(10).cdf).statistic < 0.03
    assert distance.threshold[0] ** 2 == pytest.approx(chi2(10).ppf(0.995), rel=0.06)


def test_shifted_days_are_flagged_and_the_distance_rises_with_the_shift():
    distance = fit_distance(gaussian_days(3000, 0), gaussian_days(1000, 1), most=8)
    scores = [distance(*gaussian_days(500, 5, shift)) for shift in (0.0, 2.0, 4.0, 8.0)]
    means = [score.mean() for score in scores]
    assert means == sorted(means)
    assert (scores[0] > distance.threshold).mean() < 0.02
    assert (scores[-1] > distance.threshold).mean() == 1.0


def test_a_pattern_that_no_component_shows_is_seen_too():
    """A checkerboard orthogonal to all training patterns changes no score of a component, only what they leave."""
    distance = fit_distance(gaussian_days(3000, 0), gaussian_days(1000, 1), most=8)
    vectors, numbers = gaussian_days(200, 5)
    basis = np.linalg.qr(distance.components)[0]
    board = np.where(np.arange(60) % 2, 1.0, -1.0)
    board -= basis @ (basis.T @ board)
    strange = vectors + (3.0 * board / distance.scale).astype(np.float32)
    assert (distance(vectors, numbers) > distance.threshold).mean() < 0.05
    assert (distance(strange, numbers) > distance.threshold).all()


def test_numbers_count_and_those_that_never_changed_do_not():
    training, held_out = (gaussian_days(2000, seed) for seed in (0, 1))
    for part in (training, held_out):
        part[1][:, 1] = 370.0
    distance = fit_distance(training, held_out, most=8)
    vectors, numbers = gaussian_days(100, 2)
    numbers[:, 1] = 370.0
    far = numbers + np.array([9.0, 0.0], np.float32)
    assert (distance(vectors, far) > distance.threshold).all()
    np.testing.assert_array_equal(distance(vectors, numbers + np.array([0.0, 500.0], np.float32)), distance(vectors, numbers))


def test_the_month_is_told_from_the_season():
    """A July map in January is no extreme value of any cell, and is far all the same."""
    rng = np.random.default_rng(0)

    def days(n):
        phase = rng.uniform(0, 2 * np.pi, n)
        vectors = 10 * np.cos(phase)[:, None] * np.ones(20) + rng.standard_normal((n, 4)) @ PATTERNS[:4, :20]
        return vectors.astype(np.float32), np.stack([np.cos(phase), np.sin(phase)], 1).astype(np.float32)

    distance = fit_distance(days(3000), days(1000), most=5)
    vectors, numbers = days(500)
    assert (distance(vectors, numbers) > distance.threshold).mean() < 0.03
    extreme = np.abs(numbers[:, 0]) > 0.7
    assert (distance(vectors, -numbers)[extreme] > distance.threshold).mean() > 0.9


def test_missing_values_and_cells_that_never_changed_count_as_the_mean():
    training, held_out = (gaussian_days(1000, seed) for seed in (0, 1))
    training[0][:, 5], training[0][::3, 6], training[0][:, 7] = 4.0, np.nan, np.nan
    distance = fit_distance(training, held_out, most=8)
    assert distance.scale[5] == distance.scale[7] == 0
    vectors, numbers = gaussian_days(10, 2)
    other = vectors.copy()
    other[:, [5, 7]] = 99.0
    np.testing.assert_array_equal(distance(other, numbers), distance(vectors, numbers))
    other[:, 6] = np.nan
    assert np.isfinite(distance(other, numbers)).all()


def test_more_cells_than_days_and_few_days():
    rng = np.random.default_rng(0)
    make = lambda n: ((rng.standard_normal((n, 6)) @ rng.standard_normal((6, 3)) @ np.ones((3, 500))).astype("f4"), np.zeros((n, 0)))  # noqa: E731
    distance = fit_distance(make(40), make(20))
    assert distance.components.shape[1] == 1
    assert distance.freedom == 1
    assert np.isfinite(distance(*make(5))).all()


# --- the run folder ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A resunet learned from RCM_A/perfect, and its store."""
    store = make_store()
    path = tmp_path_factory.mktemp("trust")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: store))
        model = {"name": "resunet", "width": 4, "backbone": "none", "dropout": 0.0}
        cfg = make_config(path, train={"on": ["RCM_A/perfect"], "epochs": 1, "baselines": ["ridge"]}, model=model)
        folder = modes.train_run(cfg, device="cpu")["artefact"]
    return load_run(folder, device="cpu"), store


def inputs_of(store, name="RCM_A", kind="perfect", index=slice(None)):
    group = store.groups[name]
    return group.arrays[kind][index], group.arrays["scalars"][index], group.days[index]


def test_a_run_folder_knows_its_training_days(trained):
    run, store = trained
    assert set(run.card["novelty"]) == {"sha256", "quantile", "feature_space", "predictors", "features"}
    novelty = Novelty.of(run)
    maps, scalars, days = inputs_of(store)
    series = novelty.score(maps, scalars, days)
    assert set(series) == set(novelty.attributes)
    assert set(series) == {"ood_score", "ood_score_features", "ood_flag", "ood_outside_tas", "ood_outside_zg500"}
    train = store.groups["RCM_A"].split("train")
    assert series["ood_outside_tas"][train].max() == 0.0
    assert (series["ood_flag"][train] > 0).mean() < 0.05
    held_out = store.groups["RCM_A"].split("validation")
    assert (series["ood_score"][held_out] > run.card["novelty"]["predictors"]["threshold"]).mean() <= 0.05
    low = np.nanmin(maps[train], axis=0)
    by_hand = ((maps < low) | (maps > maps[train].max(axis=0)))[:, 0].mean(axis=(1, 2))
    np.testing.assert_allclose(series["ood_outside_tas"], by_hand, atol=1e-6)


def test_warming_is_seen_in_predictors_and_features(trained):
    run, store = trained
    maps, scalars, days = inputs_of(store, index=store.groups["RCM_A"].split("test"))
    warming = np.array([1.0, 0.0], np.float32)[None, :, None, None]
    scores = [Novelty.of(run).score(maps + kelvin * warming, scalars, days) for kelvin in (0.0, 3.0, 6.0, 12.0)]
    for name in ("ood_score", "ood_score_features", "ood_outside_tas"):
        means = [float(score[name].mean()) for score in scores]
        assert means == sorted(means)
        assert means[-1] > means[0]
    assert (scores[-1]["ood_flag"] == 3).all()
    assert (scores[-1]["ood_outside_zg500"] == scores[0]["ood_outside_zg500"]).all()


def test_scores_of_a_day_do_not_depend_on_its_block(trained):
    run, store = trained
    whole = Novelty.of(run).score(*inputs_of(store))
    pieces = Novelty.of(run)
    edges = [0, 1, 30, 97, 150, 224]
    parts = [pieces.score(*inputs_of(store, index=slice(a, b))) for a, b in pairwise(edges)]
    for name, values in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), values)
    one = Novelty.of(run)
    one.score(*inputs_of(store))
    assert pieces.counts() == pytest.approx(one.counts())
    halves = [Novelty.of(run) for _ in range(2)]
    halves[0].score(*inputs_of(store, index=slice(0, 100)))
    halves[1].score(*inputs_of(store, index=slice(100, 224)))
    assert trust.total([half.counts() for half in halves]) == pytest.approx(one.counts())


def test_a_day_that_cannot_be_read_has_no_score(trained):
    run, store = trained
    maps, scalars, days = (array.copy() for array in inputs_of(store, index=slice(0, 6)))
    maps[2, 1, 0, 0] = np.nan
    scalars[4, 0] = np.nan
    novelty = Novelty.of(run)
    series = novelty.score(maps, scalars, days)
    assert np.flatnonzero(np.isnan(series["ood_score"])).tolist() == [2, 4]
    assert np.flatnonzero(series["ood_flag"] == -1).tolist() == [2, 4]
    assert series["ood_flag"].dtype == np.int8
    assert novelty.counts()["days"] == 4


def test_a_run_without_stays_without_and_a_foreign_file_is_refused(trained, tmp_path):
    run, _ = trained
    assert Novelty.of(replace(run, card={})) is None
    ridge = Novelty.of(load_run(run.path.parent / "ridge-RCM_A-perfect", device="cpu"))
    assert ridge is not None and ridge.features() is None
    facts = run.card["novelty"]
    with pytest.raises(InputDataError, match="No such file") as caught:
        NoveltyModel.read(tmp_path, facts)
    assert caught.value.code == 4
    (tmp_path / "novelty.safetensors").write_bytes((run.path / "novelty.safetensors").read_bytes()[:-1] + b"x")
    with pytest.raises(InputDataError, match="checksum"):
        NoveltyModel.read(tmp_path, facts)
    assert NoveltyModel.read(run.path, facts).predictors.threshold.shape == (1,)


def test_too_few_days_and_days_on_both_sides(trained, caplog):
    run, store = trained
    group = store.groups["RCM_A"]
    few = Portion(group, "perfect", group.split("train")[:10])
    held_out = Portion(group, "perfect", group.split("validation"))
    with caplog.at_level("INFO"):
        assert fit_novelty(run.emulator, [few], [held_out]) is None
    assert "too few" in caplog.text
    everything = Portion(group, "perfect", np.arange(len(group.days)))
    apart = Portion(group, "perfect", np.setdiff1d(everything.index, held_out.index))
    both, without = (fit_novelty(run.emulator, [one], [held_out]) for one in (everything, apart))
    assert both.predictors.threshold == without.predictors.threshold


@pytest.mark.parametrize("model", [{"name": "unet_doury", "width": 4}, {"name": "deepesd"}, {"name": "resunet", "width": 4}])
def test_every_network_says_where_it_is_narrowest(trained, model):
    run, _ = trained
    options = {"backbone": "none", "static": True, "dropout": 0.0, "filters": 1, **model}
    spec = {**run.spec, "model": options, "fixed": run.spec["fixed"] if model["name"] == "resunet" else []}
    emulator = build(spec).eval()
    group = make_group()
    features = network_features(emulator, group.arrays["perfect"], group.arrays["scalars"], group.days)
    assert features.shape[0] == len(group.days)
    assert features.shape[1] > 3
    np.testing.assert_array_equal(
        network_features(emulator, *(group.arrays[k][5:9] for k in ("perfect", "scalars")), group.days[5:9]), features[5:9]
    )


# --- what is said about it ---------------------------------------------------------------------------------------------------


def test_the_summary_and_its_line():
    counts = {
        "days": 1000, "flagged": 200, "flagged_predictors": 200, "flagged_network_features": 0, "days_1990s": 500, "flagged_1990s": 5,
        "days_2090s": 500, "flagged_2090s": 195, "outside_ta850": 80.0, "outside_CO2": 0.0,
    }  # fmt: skip
    found = summary(counts)
    assert found["flagged_share"] == 0.2
    assert found["flagged_share_by_decade"] == {"1990s": 0.01, "2090s": 0.39}
    assert found["outside_range"] == {"ta850": 0.08, "CO2": 0.0}
    assert line(found) == (
        "20.0% of 1000 days are flagged as far from the training days (the 2090s: 39%); outside the training range: 8.0% of ta850"
    )
    assert json.loads(json.dumps(found)) == found
    assert summary({})["flagged_share"] == 0


def test_too_many_flagged_days_are_a_warning_or_exit_7(caplog):
    summaries = {"a": summary({"days": 100, "flagged": 4}), "b": summary({"days": 100, "flagged": 40})}
    assert judge(summaries, 0.5, "fail") == []
    with caplog.at_level("WARNING"):
        assert len(judge(summaries, 0.05, "warn")) == 1
    assert "b: 40.0% of 100 days" in caplog.text
    with pytest.raises(TransferabilityError) as caught:
        judge(summaries, 0.05, "fail")
    assert caught.value.code == 7
    assert caught.value.message == "1 of 2 predictions: more than 5.0% of the days are far from the training days"
    assert len(caught.value.lines()) == 3


def test_arrays_of_a_distance_come_back():
    distance = fit_distance(gaussian_days(300, 0), gaussian_days(100, 1))
    again = Distance.of(distance.tensors("x"), "x")
    np.testing.assert_array_equal(again(*gaussian_days(20, 2)), distance(*gaussian_days(20, 2)))
