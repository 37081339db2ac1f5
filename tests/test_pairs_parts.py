"""Splits, statistics and scalars: known answers, no files."""

from __future__ import annotations

import numpy as np
import pytest

from downscale.cf.calendar import expected_days
from downscale.config.schema import SplitConfig
from downscale.errors import ConfigError, InputDataError
from downscale.pairs.normalise import compute_statistics, map_moments
from downscale.pairs.scalars import Forcings
from downscale.pairs.split import assign, check_not_empty, choosing, spans, split_spans


def split(**changes) -> SplitConfig:
    return SplitConfig(**{"train": ["1990-1992"], "validation": [1993], "test": [1994], "gap_days": 0, **changes})


def test_periods_become_spans_of_days():
    assert spans([1990]) == [(19900101, 19910100)]
    first, last = spans(["1983-1984"], year_starts=12)[0]
    assert first == 19821201 and 19841130 <= last < 19841201
    assert spans(["1983-12-01/1984-02-28"]) == [(19831201, 19840228)]
    for bad in ("198", "1984-1983", "1984-02-30x", "1984-01-01/1983-01-01", ""):
        with pytest.raises(ConfigError):
            spans([bad])


def test_years_hold_all_their_days_and_no_others():
    days = expected_days(19891220, 19910110, "standard")
    inside = assign(days, "standard", split(train=[1990]))["train"]
    assert days[inside[0]] == 19900101 and days[inside[-1]] == 19901231 and len(inside) == 365


def test_winters_stay_whole():
    days = expected_days(19821201, 19840301, "standard")
    inside = days[assign(days, "standard", split(train=[1983], validation=[1984], test=[1990], year_starts=12))["train"]]
    assert inside[0] == 19821201 and inside[-1] == 19831130


def test_360_day_february_30_belongs():
    days = expected_days(19900101, 19901230, "360_day")
    assert len(days) == 360 and len(assign(days, "360_day", split(train=[1990]))["train"]) == 360


def test_overlap_is_refused_with_the_days():
    with pytest.raises(ConfigError) as caught:
        split_spans(split(test=["1992-06-01/1992-07-01"]))
    assert "1992-06-01 to 1992-07-01" in caught.value.message and "train and test" in caught.value.message and caught.value.code == 2


def test_gap_days_are_dropped_from_training_on_both_sides():
    days = expected_days(19900101, 19921231, "noleap")
    parts = assign(days, "noleap", split(train=[1990, 1992], validation=[1991], test=[2000], gap_days=10))
    train = days[parts["train"]]
    assert 19901221 in train and 19901222 not in train
    assert 19920110 not in train and 19920111 in train
    assert len(parts["validation"]) == 365


def test_refit_makes_validation_days_training_days_and_keeps_them_for_the_choice():
    """1990 to 1992 train, 1991 among them chooses; only the test year has a gap before the training days, the choice one of its own."""
    days = expected_days(19900101, 19931231, "noleap")
    periods = {"train": [1990, 1992], "validation": [1991], "test": [1993], "gap_days": 10}
    parts = assign(days, "noleap", split(**periods, refit=True))
    assert np.array_equal(days[parts["train"]], days[days <= 19921221])
    assert np.array_equal(days[parts["validation"]], days[days // 10000 == 1991])
    apart = choosing(days, "noleap", parts["train"], parts["validation"], 10)
    assert np.array_equal(apart, assign(days, "noleap", split(**periods))["train"])
    bare = choosing(days, "noleap", parts["train"], parts["validation"], 0)
    assert np.array_equal(bare, np.setdiff1d(parts["train"], parts["validation"]))


def test_a_split_without_refit_says_nothing_of_it():
    """Else the splits of runs from before the option would be others than today's."""
    assert "refit" not in split().model_dump_json()
    assert split(refit=True).model_dump()["refit"] is True


def test_unusable_days_take_no_part():
    days = expected_days(19900101, 19901231, "noleap")
    usable = np.ones(365, bool)
    usable[10] = False
    assert 10 not in assign(days, "noleap", split(), usable=usable)["train"]


def test_an_empty_split_is_named():
    with pytest.raises(ConfigError) as caught:
        check_not_empty({"train": 3, "validation": 0, "test": 0}, split())
    assert "validation or test" in caught.value.message


class Fake:
    def __init__(self, seed: int, n: int, offset: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.x = (
            rng.normal(size=(n, 2, 3, 4)) * np.array([100.0, 1e-3])[:, None, None] + np.array([5500.0, 5e-3])[:, None, None] + offset
        ).astype("f4")
        self.x[:, 0, 0, 0] = 7.0  # a constant cell
        self.y = rng.gamma(0.5, 4.0, size=(n, 1, 5, 6)).astype("f4")
        self.y[:, 0, 0, 0] = np.nan  # sea
        self.s = rng.normal(size=(n, 3)).astype("f4")

    def predictors(self, kind, index):
        return self.x[index]

    def target(self, index):
        return self.y[index]

    def scalars(self, index):
        return self.s[index]

    def split(self, name):
        return np.arange(len(self.x))


def test_statistics_equal_numpy_on_pooled_groups():
    one, other = Fake(0, 700), Fake(1, 300, 0.5)
    result = compute_statistics([(one, "perfect"), (other, "perfect")], {}, ["pr"], ["season_cos", "season_sin", "GHG"])
    x, y = np.concatenate([one.x, other.x]).astype(float), np.concatenate([one.y, other.y]).astype(float)
    np.testing.assert_allclose(result.predictor_mean, x.mean(0), rtol=1e-10)
    free = np.ones((2, 3, 4), bool)
    free[0, 0, 0] = False
    np.testing.assert_allclose(result.predictor_std[free], x.std(0)[free], rtol=1e-8)
    np.testing.assert_allclose(result.channel_std, x.std(axis=(0, 2, 3)), rtol=1e-8)
    np.testing.assert_allclose(result.moment_mean, map_moments(x).mean(0), rtol=1e-10)
    np.testing.assert_allclose(result.target_mean[0, 1:], y.mean(0)[0, 1:], rtol=1e-10)
    assert np.isnan(result.target_mean[0, 0, 0])
    assert list(result.scalar_mean[:2]) == [0.0, 0.0] and list(result.scalar_std[:2]) == [1.0, 1.0]
    assert result.n_days == 1000


def test_constant_cells_divide_cleanly():
    class Constant(Fake):
        def __init__(self):
            super().__init__(0, 50)
            self.x[:, 1] = 0.004

    result = compute_statistics([(Constant(), "perfect")], {}, ["pr"], ["a", "b", "c"])
    assert (result.predictor_std[1] == 1.0).all() and result.predictor_std[0, 0, 0] == 1.0


def test_statistics_of_whole_maps_are_plain_means_to_the_bit():
    fake = Fake(0, 300)
    result = compute_statistics([(fake, "perfect")], {}, ["pr"], ["a", "b", "c"])
    raw_std = np.where(result.predictor_std == 1.0, 0.0, result.predictor_std)
    mean = result.predictor_mean.mean(axis=(1, 2))
    std = np.sqrt((raw_std**2 + (result.predictor_mean - mean[:, None, None]) ** 2).mean(axis=(1, 2)))
    assert (result.channel_mean == mean).all() and (result.channel_std == std).all()
    assert not result.missing.any() and not result.constant.any() and not result.partly.any()


def test_statistics_leave_missing_cells_out_and_count_them():
    fake, whole = Fake(0, 300), Fake(0, 300)
    fake.x[20:50, 1, :2, :2] = np.nan
    fake.x[:, 1, 2, 3] = np.nan  # never there
    result = compute_statistics([(fake, "perfect")], {}, ["pr"], ["a", "b", "c"])
    plain = compute_statistics([(whole, "perfect")], {}, ["pr"], ["a", "b", "c"])
    values = fake.x[:, 1].astype(float)
    np.testing.assert_allclose(result.predictor_mean[1, 0, 0], np.nanmean(values[:, 0, 0]), rtol=1e-10)
    np.testing.assert_allclose(result.channel_mean[1], np.nanmean(values), rtol=1e-10)
    np.testing.assert_allclose(result.channel_std[1], np.nanstd(values), rtol=1e-8)
    np.testing.assert_allclose(result.moment_mean[[1, 3]], [np.nanmean(values, axis=(1, 2)).mean(), np.nanstd(values, axis=(1, 2)).mean()])
    assert result.missing[1].tolist() == [[30, 30, 0, 0], [30, 30, 0, 0], [0, 0, 0, 300]] and result.partly.tolist() == [False, True]
    assert result.missing_notes(["zg500", "hus850"]) == {"hus850": "5 of 12 cells missing at times, 11.67% of all values"}
    assert (result.predictor_mean[0] == plain.predictor_mean[0]).all() and result.digest != plain.digest


def test_constant_channels_are_known():
    fake = Fake(0, 50)
    fake.x[:, 1] = np.arange(12).reshape(3, 4)
    assert compute_statistics([(fake, "perfect")], {}, ["pr"], ["a", "b", "c"]).constant.tolist() == [False, True]
    fake.x[:, 1] = np.nan
    result = compute_statistics([(fake, "perfect")], {}, ["pr"], ["a", "b", "c"])
    assert result.constant.tolist() == [False, True] and not result.partly.any()


def test_transforms_enter_the_target_statistics_and_the_digest():
    fake = Fake(0, 100)
    plain = compute_statistics([(fake, "perfect")], {}, ["pr"], ["a", "b", "c"])
    logged = compute_statistics([(fake, "perfect")], {"pr": "log1p"}, ["pr"], ["a", "b", "c"])
    np.testing.assert_allclose(logged.target_mean[0, 1:], np.log1p(fake.y.astype(float)).mean(0)[0, 1:], rtol=1e-10)
    assert plain.digest != logged.digest


def test_season_and_forcings(tmp_path):
    path = tmp_path / "forcings.csv"
    path.write_text("year,GHG,solar\n1990,350.0,1361\n1991,352.5,1361.5\n")
    forcings = Forcings(path, ["GHG"])
    days = np.array([19900101, 19910702])
    values = forcings(days, "noleap")
    assert forcings.names == ["season_cos", "season_sin", "GHG"]
    np.testing.assert_allclose(values[:, 2], [350.0, 352.5])
    assert values[0, 0] > 0.999 and values[1, 0] < -0.99
    with pytest.raises(InputDataError, match="1992"):
        forcings(np.array([19920101]), "noleap")
    with pytest.raises(InputDataError, match="CO2"):
        Forcings(path, ["CO2"])
    path.write_text("year,GHG\n1990,many\n")
    with pytest.raises(InputDataError, match="not a number"):
        Forcings(path, ["GHG"])
    with pytest.raises(InputDataError, match="cannot read"):
        Forcings(tmp_path / "none.csv", ["GHG"])
