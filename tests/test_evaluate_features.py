"""Frechet distance of network features: analytic answers, the space it is taken in, and from training to the table."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs_world import FINE, Group, make_context, rows_of, write_prediction, years_of
from safetensors.numpy import save_file
from scipy.linalg import sqrtm

from downscale.evaluate.weather import features
from downscale.evaluate.weather.features import Climate, frechet
from downscale.training.moments import MOST_FEATURES, FeatureSpace, Sums


def climate(mean, covariance, number=100):
    return Climate(number, np.asarray(mean, float), np.asarray(covariance, float))


def test_known_distances_of_gaussian_climates():
    one = climate([0, 0], np.diag([1.0, 4.0]))
    assert frechet(one, one).distance == pytest.approx(0.0, abs=1e-12)
    assert frechet(climate([3, 4], np.diag([1.0, 4.0])), one).mean_part == pytest.approx(25.0)
    wide = frechet(climate([0, 0], np.diag([4.0, 9.0])), one)
    assert wide.spread_part == pytest.approx((2 - 1) ** 2 + (3 - 2) ** 2)
    assert frechet(climate([3, 4], np.diag([1.0, 4.0])), one, unit=5.0).distance == pytest.approx(5.0)


def test_correlated_covariances_as_the_matrix_square_root_says():
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((2, 5, 5))
    one, other = (climate(rng.standard_normal(5), root @ root.T) for root in roots)
    cross = np.trace(sqrtm(one.covariance @ other.covariance)).real
    expected = ((one.mean - other.mean) ** 2).sum() + np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross
    assert frechet(one, other).distance == pytest.approx(expected, rel=1e-9)


def test_too_few_days_or_no_variance_is_no_distance():
    one = climate([0], [[1.0]])
    assert np.isnan(frechet(climate([0], [[0.0]], number=1), one).distance)
    assert np.isnan(frechet(one, one, unit=0.0).distance)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_the_distance_is_symmetric_and_never_negative(seed, size):
    rng = np.random.default_rng(seed)
    one, other = (climate(rng.standard_normal(size), np.cov(rng.standard_normal((size, 9))).reshape(size, size)) for _ in range(2))
    there, back = frechet(one, other), frechet(other, one)
    assert there.distance >= 0
    assert there.distance == pytest.approx(back.distance, rel=1e-6, abs=1e-9)


# --- the space --------------------------------------------------------------------------------------------------------------------


def test_sums_of_parts_are_those_of_the_whole():
    z = np.random.default_rng(0).standard_normal((50, 4))
    whole, parts = Sums.of(z), Sums.of(z[40:]) + Sums.of(z[:13]) + Sums.of(z[13:40])
    for name in ("number", "first", "second"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))  # to the last bit
    np.testing.assert_allclose(whole.second, z.T @ z, atol=1e-2)


def test_the_space_is_that_of_the_training_days():
    rng = np.random.default_rng(1)
    training, held_out = (5 + 3 * rng.standard_normal((n, 6)) for n in (200, 40))
    space = FeatureSpace.fit(training, held_out)
    z = space(training)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    assert z.var(axis=0).mean() == pytest.approx(1.0)
    assert space.held_out.number[0] == 40
    again = FeatureSpace.from_tensors(space.tensors("s"), "s")
    np.testing.assert_array_equal(again(held_out), space(held_out))


def test_a_feature_that_never_moved_in_training_counts_when_it_moves():
    training = np.random.default_rng(2).standard_normal((100, 3))
    training[:, 2] = 7.0
    space = FeatureSpace.fit(training, training)
    awake = training.copy()
    awake[:, 2] = 10.0
    assert np.abs(space(awake)[:, 2]).min() > 1


def test_without_features_or_variance_there_is_no_space():
    assert FeatureSpace.fit(np.zeros((5, 0)), np.zeros((5, 0))) is None
    assert FeatureSpace.fit(np.ones((5, 3)), np.ones((5, 3))) is None


def test_many_features_are_projected_and_keep_their_distances():
    rng = np.random.default_rng(3)
    training = rng.standard_normal((60, 4 * MOST_FEATURES))
    space = FeatureSpace.fit(training, training[:10])
    z = space(training)
    assert z.shape == (60, MOST_FEATURES)
    apart = [((rows[0] - rows[1:]) ** 2).sum(axis=1) for rows in (z, (training - space.centre) / space.unit)]
    np.testing.assert_allclose(apart[0] / apart[1], 1.0, atol=0.25)
    assert np.mean(apart[0] / apart[1]) == pytest.approx(1.0, abs=0.05)


# --- the table ----------------------------------------------------------------------------------------------------------------------


def group_of(days):
    values = np.full((len(days), 1, *FINE), 290.0, np.float32)
    fields = np.zeros((len(days), 1, 6, 6), np.float32)
    return Group("R", days, {"perfect": fields, "imperfect": fields}, truth=values)


def write_features(path, name, space, days):
    tensors = Sums.of(space(days)).tensors("days") | space.training.tensors("training") | space.held_out.tensors("held_out")
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path / name)


def test_the_table_says_how_far_each_case_is(tmp_path):
    rng = np.random.default_rng(4)
    space = FeatureSpace.fit(rng.standard_normal((4000, 3)), rng.standard_normal((2000, 3)))
    days = years_of(2000, 2000)
    group = group_of(days)
    near, far = rng.standard_normal((3000, 3)), rng.standard_normal((3000, 3)) + np.array([1.5, 0, 0])
    for kind, parts in (("perfect", [near]), ("imperfect", [far[:1000], far[1000:]])):
        names = [f"features_{i}.safetensors" for i in range(len(parts))]
        path = write_prediction(tmp_path, "net", group, kind, days, np.full((365, *FINE), 292.0), features=names)
        for name, part in zip(names, parts, strict=True):
            write_features(path, name, space, part)
    write_prediction(tmp_path, "ridge", group, "perfect", days, np.full((365, *FINE), 292.0), role="baseline")
    context = make_context(tmp_path, [group])
    features.diagnose(context)
    rows = {(row["case"], row["against"]): row for row in rows_of(context, "feature_shift")}
    assert set(rows) == {
        ("held-out years", "training"), ("R/perfect", "training"), ("R/imperfect", "training"), ("R/imperfect", "R/perfect")
    }  # fmt: skip
    assert rows["R/imperfect", "training"]["mean_part"] == pytest.approx(1.5**2 / 3, rel=0.1)
    assert rows["R/imperfect", "training"]["spread_part"] < 0.01
    assert rows["R/imperfect", "training"]["n_days"] == 3000
    assert "times that of the held-out years" in rows["R/imperfect", "training"]["note"]
    assert rows["R/perfect", "training"]["distance"] < 0.01
    assert rows["R/imperfect", "R/perfect"]["note"] == "the same days"


def test_damaged_and_foreign_files_are_said_and_left_out(tmp_path, caplog):
    days = years_of(2000, 2000)
    group = group_of(days)
    path = write_prediction(tmp_path, "net", group, "perfect", days, np.full((365, *FINE), 292.0), features=["features.safetensors"])
    context = make_context(tmp_path, [group])
    features.diagnose(context)
    (path / "features.safetensors").write_bytes(b"no tensors")
    features.diagnose(context)
    assert caplog.text.count("its features cannot be read") == 2
    facts = json.loads((path / "prediction.json").read_text())
    (path / "prediction.json").write_text(json.dumps({**facts, "feature_files": ["../../../secret"]}))
    with pytest.raises(Exception, match="leads out of its folder"):
        features.diagnose(context)
    assert not context.tables
