"""Statistics by month, the gamma weights of precipitation, and the cache that keeps them beside the pair store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.pairs import statistics as kept
from downscale.pairs.gamma import Gamma, fit_gamma, from_sums
from downscale.pairs.normalise import compute_monthly, compute_statistics
from downscale.pairs.statistics import FOLDER, monthly_statistics, rain_gamma, training_statistics


@dataclass
class Group:
    """What statistics need of a pair group; counts what is read."""

    days: np.ndarray
    x: np.ndarray
    y: np.ndarray
    train: np.ndarray
    attributes: dict = field(default_factory=lambda: {"digest": "recipe", "inventory": {"files": 3, "bytes": 99}})
    read: int = 0

    def predictors(self, kind, index):
        self.read += 1
        return self.x[index]

    def target(self, index):
        self.read += 1
        return self.y[index]

    def scalars(self, index):
        return np.stack([index, index % 7], 1).astype("f4")

    def split(self, name):
        return self.train if name == "train" else np.arange(0)


def group(seed: int = 0, n: int = 700) -> Group:
    rng = np.random.default_rng(seed)
    months = np.arange(n) * 12 // n % 12 + 1
    x = rng.normal(size=(n, 2, 3, 4)) * np.array([100.0, 1e-3])[:, None, None] + np.array([5500.0, 5e-3])[:, None, None]
    x[:, 0] += 50.0 * np.cos(months / 6.0 * np.pi)[:, None, None]
    y = rng.gamma(0.6, 6.0, size=(n, 2, 5, 6))
    y[:, 1, 0, 0] = np.nan
    return Group(20010000 + 100 * months + 1 + np.arange(n) % 28, x.astype("f4"), y.astype("f4"), np.arange(0, n, 2))


@dataclass
class Store:
    path: Path
    groups: dict[str, Group]
    targets: list[str] = field(default_factory=lambda: ["tas", "pr"])
    scalars: list[str] = field(default_factory=lambda: ["season_cos", "GHG"])
    recipe: dict = field(default_factory=lambda: {"channels": ["a", "b"]})

    def group(self, name):
        return self.groups[name]

    @property
    def read(self) -> int:
        return sum(one.read for one in self.groups.values())


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "pairs.zarr", {"A": group(0), "B": group(1, 300)})


def same(one, other) -> bool:
    names = [f.name for f in fields(one) if getattr(one, f.name) is not None]
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in names)


# --- by month


def test_months_are_those_of_numpy_on_pooled_groups():
    one, other = group(0), group(1, 300)
    result = compute_monthly([(one, "perfect"), (other, "perfect")])
    x = np.concatenate([each.x[each.train] for each in (one, other)]).astype(float)
    month = np.concatenate([each.days[each.train] // 100 % 100 for each in (one, other)])
    for number in range(12):
        chosen = x[month == number + 1]
        np.testing.assert_allclose(result.mean[number], chosen.mean(0), rtol=1e-10)
        np.testing.assert_allclose(result.std[number], chosen.std(0), rtol=1e-7)
        assert result.days[number] == len(chosen)


def test_a_month_without_days_and_a_cell_without_values_have_no_statistics():
    one = group()
    one.train = one.train[one.days[one.train] // 100 % 100 < 12]
    one.x[:, 1, 2, 3] = np.nan
    one.x[:, 0, 0, 0] = 7.0
    result = compute_monthly([(one, "perfect")])
    assert np.isnan(result.mean[11]).all() and np.isnan(result.std[11]).all() and result.days[11] == 0
    assert np.isnan(result.mean[:, 1, 2, 3]).all() and np.isfinite(result.mean[:11, 1, 2, :3]).all()
    assert (result.std[:11, 0, 0, 0] == 1.0).all()


# --- gamma


def test_gamma_is_scipys_maximum_likelihood_with_location_zero():
    one, other = group(0), group(1, 300)
    result = fit_gamma([one, other], 1)
    y = np.concatenate([each.y[each.train, 1] for each in (one, other)]).astype(float)
    for cell in ((0, 1), (2, 3), (4, 5)):
        wet = y[:, *cell][y[:, *cell] > 1.0] - 1.0
        shape, _, scale = scipy.stats.gamma.fit(wet, floc=0)
        np.testing.assert_allclose([result.shape[cell], result.scale[cell]], [shape, scale], rtol=1e-7)
        assert result.days[cell] == len(wet)
    assert np.isnan(result.shape[0, 0]) and np.isnan(result.scale[0, 0]) and result.days[0, 0] == 0


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 200.0), st.floats(0.01, 100.0))
def test_the_shape_solves_its_equation_for_any_shape(shape, scale):
    from scipy.special import digamma

    n = 5000
    sums = from_sums(np.array(n), np.array(n * shape * scale), np.array(n * (digamma(shape) + np.log(scale))))
    np.testing.assert_allclose(sums.shape, shape, rtol=1e-9)
    np.testing.assert_allclose(sums.scale, scale, rtol=1e-9)


def test_blocks_do_not_change_the_fit_beyond_rounding(monkeypatch):
    from downscale.pairs import gamma

    one = group()
    whole = fit_gamma([one], 1)
    monkeypatch.setattr(gamma, "blocks", lambda index: (index[start : start + 17] for start in range(0, len(index), 17)))
    np.testing.assert_allclose(fit_gamma([one], 1).shape, whole.shape, rtol=1e-11)


def test_cells_without_two_different_wet_days_weigh_nothing():
    one = group()
    one.y[:, 1, 1, 1] = 0.5
    one.y[:, 1, 1, 2] = 0.5
    one.y[one.train[5], 1, 1, 2] = 8.0
    one.y[:, 1, 1, 3] = 8.0
    result = fit_gamma([one], 1)
    assert np.isnan(result.shape[1, 1:4]).all() and result.days[1, 1:4].tolist() == [0, 1, 350]
    assert (result.weight(np.full((5, 6), 50.0))[1, 1:4] == 0.0).all()


def test_the_weight_is_the_squared_distribution_function_of_what_exceeds_a_millimetre():
    result = fit_gamma([group()], 1)
    amounts = np.random.default_rng(3).gamma(0.6, 10.0, (4, 5, 6))
    amounts[0, 2, 2], amounts[1, 2, 2], amounts[2, 2, 2], amounts[3, 2, 2] = 0.0, 1.0, np.nan, 1e6
    weight = result.weight(amounts.astype("f4"))
    expected = scipy.stats.gamma.cdf(amounts.astype("f4").astype(float) - 1.0, result.shape, scale=result.scale) ** 2
    there = np.isfinite(result.shape) & np.isfinite(amounts)
    np.testing.assert_allclose(weight[there], expected[there], rtol=1e-10)
    assert weight[0, 2, 2] == weight[1, 2, 2] == 0.0 and np.isnan(weight[2, 2, 2]) and weight[3, 2, 2] == 1.0
    assert (weight[np.isfinite(amounts)] >= 0.0).all() and (weight[:, 0, 0] == 0.0).all() and weight.dtype == np.float64


def test_parameters_of_a_cell_reach_that_cell_only():
    result = fit_gamma([group()], 1)
    amounts = np.random.default_rng(3).gamma(0.6, 10.0, (4, 5, 6)) + 1.5
    shape, scale = result.shape.copy(), result.scale.copy()
    shape[3, 1], scale[3, 1] = 3.0 * shape[3, 1], 5.0 * scale[3, 1]
    changed = Gamma(shape, scale, result.days).weight(amounts) != result.weight(amounts)
    assert changed[:, 3, 1].all() and changed.sum() == 4


# --- the cache


MAKE = {
    "statistics": (lambda s: training_statistics(s, [("A", "perfect"), ("B", "perfect")], {"pr": "log1p"})),
    "monthly": (lambda s: monthly_statistics(s, [("A", "perfect"), ("B", "perfect")])),
    "gamma": (lambda s: rain_gamma(s, ["A", "B", "A"])),
}
EVERY = pytest.mark.parametrize("make", MAKE.values(), ids=list(MAKE))


@EVERY
def test_a_second_time_nothing_is_read_and_the_numbers_are_the_same(store, make):
    first = make(store)
    assert store.read > 0
    before = store.read
    second = make(store)
    assert store.read == before and same(first, second)
    assert [type(getattr(first, f.name)) for f in fields(first)] == [type(getattr(second, f.name)) for f in fields(second)]
    assert [path.suffix for path in (store.path.parent / FOLDER).iterdir()] == [".safetensors"]


def test_numbers_are_those_without_a_cache(store):
    pairs = [(one, "perfect") for one in store.groups.values()]
    for _ in range(2):
        result = MAKE["statistics"](store)
        plain = compute_statistics(pairs, {"pr": "log1p"}, store.targets, store.scalars)
        assert same(result, plain) and result.digest == plain.digest and isinstance(result.n_days, int)
        assert same(MAKE["monthly"](store), compute_monthly(pairs))
        assert same(MAKE["gamma"](store), fit_gamma(list(store.groups.values()), 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.recipe.update(channels=["a", "c"]),
        lambda s: s.group("A").attributes.update(digest="other"),
        lambda s: s.group("B").attributes.update(inventory={"files": 3, "bytes": 98}),
        lambda s: setattr(s.group("A"), "train", s.group("A").train[1:]),
        lambda s: setattr(s.group("A"), "days", s.group("A").days + 10000),
    ],
    ids=["recipe", "group", "bytes", "split", "days"],
)
@EVERY
def test_another_store_or_split_has_statistics_of_its_own(store, make, change):
    make(store)
    change(store)
    before = store.read
    make(store)
    assert store.read > before
    before = store.read
    make(store)
    assert store.read == before


def test_transforms_and_kinds_are_told_apart(store):
    for cases, transforms in (
        ([("A", "perfect")], {}),
        ([("A", "imperfect")], {}),
        ([("A", "perfect")], {"pr": "sqrt"}),
        ([("A", "perfect"), ("A", "imperfect")], {}),
        ([("B", "perfect")], {}),
    ):
        before = store.read
        training_statistics(store, cases, transforms)
        assert store.read > before
    before = store.read
    training_statistics(store, [("A", "perfect")], {"pr": "standardise", "tas": "standardise"})  # what {} stands for
    assert store.read == before


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def damage_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(bytes(data))


def damage_foreign(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"mean": np.zeros(3)}, path)


def damage_text(path: Path) -> None:
    path.write_text("not ours")


def damage_other(path: Path) -> None:
    """Whole, and of another key."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="np") as content:
        values = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        said = content.metadata()
    save_file(values, path, {**said, "of": "{}"})


@pytest.mark.parametrize("damage", [damage_cut, damage_bit, damage_foreign, damage_text, damage_other, lambda path: path.write_bytes(b"")])
@EVERY
def test_damaged_and_foreign_files_are_made_anew(store, make, damage):
    first = make(store)
    (path,) = (store.path.parent / FOLDER).iterdir()
    damage(path)
    before = store.read
    assert same(make(store), first) and store.read > before
    before = store.read
    assert same(make(store), first) and store.read == before


def test_where_nothing_can_be_written_nothing_is_kept(store, tmp_path):
    folder = tmp_path / FOLDER
    folder.write_text("a file in the way")
    first = MAKE["gamma"](store)
    assert same(MAKE["gamma"](store), first) and folder.read_text() == "a file in the way"
    folder.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    MAKE["gamma"](store)
    assert not list(elsewhere.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_is_only_for_reading_stays_as_it_is(store, tmp_path):
    tmp_path.chmod(0o500)
    try:
        MAKE["statistics"](store)
        assert not list(tmp_path.iterdir())
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_leaves_no_half_file(store, tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    first = MAKE["gamma"](store)
    assert not list((tmp_path / FOLDER).iterdir())
    assert same(MAKE["gamma"](store), first)


def test_only_the_newest_are_kept(store, monkeypatch):
    monkeypatch.setattr(kept, "_KEPT", 3)
    for length in range(10, 16):
        store.group("A").train = np.arange(length)
        rain_gamma(store, ["A"])
    assert len(list((store.path.parent / FOLDER).iterdir())) == 3
    before = store.read
    rain_gamma(store, ["A"])
    assert store.read == before


def test_a_prepared_store_keeps_its_statistics_beside_it_and_stays_whole(tmp_path, monkeypatch):
    from grid_samples import box
    from grid_world import World, files_of, regional

    world = World(tmp_path, files_of(regional()), files_of(box(4.0, 16.0, 39.0, 51.0, 2.0)))
    cases = [("RCM", "perfect")]
    first = training_statistics(world.store(), cases, {})
    monkeypatch.setattr(kept, "compute_statistics", None)  # from here on streaming would fail
    assert same(training_statistics(world.store(), cases, {}), first)
    assert "nothing to do" in world.prepare().output
    assert sorted(path.name for path in world.results.iterdir()) == ["pairs.statistics", "pairs.zarr"]
    world.config.write_text(world.config.read_text().replace("2001-01-08", "2001-01-07"))
    with pytest.raises(TypeError):
        training_statistics(world.store(), cases, {})
    world.config.write_text(world.config.read_text().replace("2001-01-24", "2001-01-23").replace("2001-01-07", "2001-01-08"))
    assert same(training_statistics(world.store(), cases, {}), first)  # other test days, the same training days
