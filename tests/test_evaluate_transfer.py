"""Error split, predictor shift, transfer matrix and recovery against answers known beforehand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fake_workspace import FakeGroup

from downscale.cf.calendar import expected_days
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.scorecard import Score, Scorecard
from downscale.evaluate.selection import TimeTable
from downscale.evaluate.transfer import shift
from downscale.evaluate.transfer import tables as transfer
from downscale.evaluate.transfer.error_split import daily_split, split_statistic


@pytest.fixture
def triple():
    generator = np.random.default_rng(0)
    truth = 285 + 5 * generator.standard_normal((300, 4, 5))
    from_rcmu = truth + 0.4 + generator.standard_normal(truth.shape)
    from_gcm = from_rcmu + 1.5 + 2 * generator.standard_normal(truth.shape)
    return tuple(field.astype(np.float32) for field in (from_gcm, from_rcmu, truth))


def test_the_daily_split_adds_up_to_the_mean_square_error(triple):
    parts = daily_split(*triple)
    mse = ((triple[0].astype(float) - triple[2]) ** 2).mean(axis=0)
    assert parts["input"] + parts["emulator"] + parts["cross"] == pytest.approx(mse, rel=1e-6)
    assert parts["total"] == pytest.approx(mse, rel=1e-6)
    assert parts["input"].mean() == pytest.approx(1.5**2 + 4, rel=0.05)


def test_the_split_of_a_climate_finds_who_made_the_bias(triple):
    means = [field.astype(float).mean(axis=0) for field in triple]
    split = split_statistic(*means, np.ones((4, 5)))
    assert split.input + split.emulator + split.cross == pytest.approx(split.total, rel=1e-9)
    assert split.total == pytest.approx(((means[0] - means[2]) ** 2).mean(), rel=1e-9)
    assert split.share_input == pytest.approx(1.5**2 / (1.5**2 + 0.4**2), rel=0.1)
    assert split.cross > 0


def test_the_split_skips_cells_and_days_without_a_value(triple):
    broken = [field.copy() for field in triple]
    broken[0][:50, 0, 0] = np.nan
    broken[2][:, 1, 1] = np.nan
    parts = daily_split(*broken)
    assert np.isnan(parts["total"][1, 1]) and np.isfinite(parts["total"][0, 0])
    assert parts["total"][0, 0] == pytest.approx(((triple[0][50:, 0, 0].astype(float) - triple[2][50:, 0, 0]) ** 2).mean(), rel=1e-6)
    nothing = split_statistic(np.full((2, 2), np.nan), np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)))
    assert math.isnan(nothing.share_input)


# --- predictor shift ---------------------------------------------------------------------------------------------------------------


def _groups(offset=0.0, scale=1.0):
    days = np.concatenate([expected_days(20000101, 20001230, "360_day"), expected_days(20900101, 20901230, "360_day")])
    base = (
        np.random.default_rng(1).standard_normal((len(days), 2, 3, 3)).astype(np.float32) * np.array([4.0, 0.01], np.float32)[:, None, None]
    )
    moved = base * scale + offset * np.array([4.0, 0.01])[:, None, None]
    return FakeGroup(
        "R", "360_day", days, ("perfect", "imperfect"), ("tas",), None, {"perfect": base, "imperfect": moved.astype(np.float32)}, {}, {}
    )


def _shift(group):
    index = np.arange(len(group.days))
    samples = [shift.PredictorSample(group, kind, index, TimeTable(group.days, group.calendar)) for kind in ("imperfect", "perfect")]
    return shift.predictor_shift(*samples, ["zg500", "hus850"], np.ones((3, 3)))


def test_a_gcm_shifted_by_d_shows_d_in_every_channel_and_season():
    rows = _shift(_groups(offset=0.5))
    assert {row["season"] for row in rows} == {"ANN", "DJF", "MAM", "JJA", "SON"} and {row["channel"] for row in rows} == {
        "zg500",
        "hus850",
    }
    for row in rows:
        assert row["shift"] == pytest.approx(0.5, abs=0.04) and row["w1"] == pytest.approx(0.5, abs=0.04)
        assert row["log_std_ratio"] == pytest.approx(0.0, abs=1e-5) and row["correlation"] == pytest.approx(1.0, abs=1e-5)
        assert row["change_shift"] == pytest.approx(0.0, abs=1e-5) and row["paired"] == 1


def test_a_wider_gcm_shows_its_variance_ratio():
    annual = [row for row in _shift(_groups(scale=1.5)) if row["season"] == "ANN"]
    assert [row["log_std_ratio"] for row in annual] == pytest.approx([math.log(1.5)] * 2, abs=1e-5)
    assert [row["w1"] for row in annual] == pytest.approx([0.5 * math.sqrt(2 / math.pi)] * 2, rel=0.1)


def test_half_the_cells_with_twice_the_spread_and_half_with_half_of_it_do_not_cancel():
    base = np.random.default_rng(0).standard_normal((2000, 4, 4))
    fields = base * np.where(np.arange(4) < 2, 2.0, 0.5)[:, None]
    found = shift.compare(fields, base, np.ones((4, 4)), paired=True)
    assert found["log_std_ratio"] == pytest.approx(0.0, abs=1e-6)
    assert found["abs_log_std_ratio"] == pytest.approx(math.log(2), abs=1e-6)


def test_days_of_different_runs_are_not_correlated():
    one, other = _groups(), _groups(offset=1.0)
    index = np.arange(len(one.days))
    samples = [shift.PredictorSample(group, "perfect", index, TimeTable(group.days, group.calendar)) for group in (one, other)]
    rows = shift.predictor_shift(*samples, ["zg500", "hus850"], np.ones((3, 3)))
    assert all(math.isnan(row["correlation"]) and math.isnan(row["change_shift"]) and row["paired"] == 0 for row in rows)


def test_channels_in_blocks_give_what_all_at_once_give(monkeypatch):
    whole = _shift(_groups(offset=0.3))
    monkeypatch.setattr(shift, "CHANNEL_BYTES", 1)
    assert _shift(_groups(offset=0.3)) == whole


# --- matrix and recovery -----------------------------------------------------------------------------------------------------------


def _prediction(run, case, mode, trained_on, *, role="emulator", model="resunet", source=None, shots=None):
    group, _, kind = case.partition("/")
    return Prediction(
        Path(),
        run,
        group,
        kind,
        ("tas",),
        role,
        model,
        mode,
        tuple(trained_on),
        tuple(trained_on[-1:]) if mode in ("finetune", "few-shot") else (),
        source,
        shots,
        "0",
    )


def _score(run, case, metric, value):
    return Score(run, case, "tas", metric, "all", "ANN", "all", value, math.nan, math.nan, "K", 360, 1, 4, "none: 1 year")


HOME, AWAY = "A/perfect", "B/imperfect"


def test_the_matrix_refers_every_run_to_its_home():
    predictions = [_prediction("net", case, "pretrain", [HOME]) for case in (HOME, AWAY)]
    card = Scorecard([_score("net", HOME, "rmse", 0.5), _score("net", AWAY, "rmse", 2.0), _score("truth", "A/truth", "mean", 280.0)], {})
    rows = {row["case"]: row for row in transfer.transfer_matrix(card, predictions)}
    assert rows[AWAY]["ratio"] == pytest.approx(4.0) and rows[AWAY]["gap"] == pytest.approx(1.5) and rows[AWAY]["trained_here"] == 0
    assert rows[HOME]["ratio"] == pytest.approx(1.0) and rows[HOME]["trained_here"] == 1 and len(rows) == 2


def test_recovery_is_the_share_of_the_loss_that_is_made_good():
    predictions = [
        _prediction("zero", AWAY, "pretrain", [HOME]),
        _prediction("few", AWAY, "few-shot", [HOME, AWAY], source="zero", shots=2),
        _prediction("full", AWAY, "pretrain", [AWAY]),
    ]
    values = {"zero": (2.0, 1.3), "few": (0.8, 1.1), "full": (0.4, 1.0)}
    card = Scorecard(
        [
            _score(run, AWAY, metric, value[number])
            for run, value in values.items()
            for number, metric in enumerate(("abs_bias", "std_ratio"))
        ],
        {},
    )
    rows = {row["metric"]: row for row in transfer.recovery(card, predictions)}
    assert rows["abs_bias"]["loss"] == pytest.approx(1.6) and rows["abs_bias"]["recovered"] == pytest.approx(0.75)
    assert rows["std_ratio"]["recovered"] == pytest.approx(2 / 3) and rows["abs_bias"]["shots"] == 2
    assert math.isnan(rows["w1"]["recovered"])


def test_nothing_lost_is_said_and_not_divided_by():
    predictions = [
        _prediction("zero", AWAY, "pretrain", [HOME]),
        _prediction("few", AWAY, "few-shot", [HOME, AWAY]),
        _prediction("full", AWAY, "finetune", [HOME, AWAY]),
    ]
    card = Scorecard([_score("zero", AWAY, "rmse", 1.0), _score("few", AWAY, "rmse", 0.9), _score("full", AWAY, "rmse", 1.1)], {})
    row = next(row for row in transfer.recovery(card, predictions) if row["metric"] == "rmse")
    assert math.isnan(row["recovered"]) and "nothing lost" in row["note"]


def test_a_baseline_trained_on_the_same_pairs_stands_beside():
    net = _prediction("net", AWAY, "pretrain", [AWAY])
    others = [
        _prediction("ridge-A", AWAY, "baseline", [HOME], role="baseline", model="ridge"),
        _prediction("ridge-B", AWAY, "baseline", [AWAY], role="baseline", model="ridge"),
    ]
    assert transfer.baseline_of(net, "ridge", [net, *others]).run == "ridge-B"
    assert transfer.baseline_of(net, "ridge", [net, others[0]]).run == "ridge-A"
    assert transfer.baseline_of(net, "bilinear", [net, *others]) is None


def test_the_home_of_an_adapted_run_is_no_adaptation():
    runs = [
        _prediction("away", HOME, "pretrain", [AWAY]),
        _prediction("few", HOME, "few-shot", [HOME, AWAY]),
        _prediction("home", HOME, "pretrain", [HOME]),
    ]
    card = Scorecard([_score(run.run, HOME, "rmse", 1.0) for run in runs], {})
    assert transfer.recovery(card, runs) == []
