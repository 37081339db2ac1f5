"""Weather regimes against planted ones: found, counted, assigned, and traced to errors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from fake_workspace import make_workspace
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs_world import FINE, Group, make_context, rows_of, write_prediction, years_of

from downscale.cf.calendar import season_phase
from downscale.errors import ConfigError
from downscale.evaluate.selection import TimeTable
from downscale.evaluate.stage import evaluate_store
from downscale.evaluate.weather import regime_tables
from downscale.evaluate.weather.anomalies import AnnualCycle, ChannelDays
from downscale.evaluate.weather.regime_tables import Assigned, frequency_rows
from downscale.evaluate.weather.regimes import Stability, composites, fit_regimes, most_stable

CELLS = 36
AREA = np.ones(CELLS)


def patterns(k=4):
    """Orthogonal patterns on 6 x 6 cells, 60 m high, without area mean."""
    y, x = np.meshgrid(np.arange(6) + 0.5, np.arange(6) + 0.5, indexing="ij")
    waves = [np.cos(np.pi * a * y / 6) * np.cos(np.pi * b * x / 6) for a, b in ((0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (2, 1))]
    return np.stack([60 * wave.ravel() / np.sqrt((wave**2).mean()) for wave in waves[:k]])


def planted(days, seed=0, shares=(0.4, 0.3, 0.2, 0.1), warming=0.0, calendar="noleap", noise=12.0):
    """Maps (n, 1, 6, 6) in m of spells of 5 days in one of four regimes, an annual cycle and a rise; and the regimes 0 to 3."""
    rng = np.random.default_rng(seed)
    which = np.repeat(rng.choice(4, -(-len(days) // 5), p=shares), 5)[: len(days)]
    cycle = 5500 + 100 * np.cos(2 * np.pi * season_phase(days, calendar))[:, None] * np.linspace(1, 2, CELLS)
    maps = cycle + patterns()[which] + noise * rng.standard_normal((len(days), CELLS)) + warming
    return maps.reshape(-1, 1, 6, 6).astype(np.float32), which


# --- fitting ------------------------------------------------------------------------------------------------------------------


def anomalies_of(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    which = np.repeat(rng.choice(4, n // 5, p=(0.4, 0.3, 0.2, 0.1)), 5)
    return patterns()[which] + 12 * rng.standard_normal((n, CELLS)), which


def test_planted_regimes_are_found_in_order_of_frequency():
    anomalies, which = anomalies_of()
    regimes, stability = fit_regimes(anomalies, AREA, "auto")
    assert regimes.number == 4
    found, distance = regimes.assign(anomalies)
    known = found > 0
    assert (found[known] == which[known] + 1).mean() > 0.99
    assert (~known).mean() == pytest.approx(0.005, abs=0.002)
    np.testing.assert_allclose(composites(anomalies, found, 4), patterns(), atol=4)
    assert regimes.explained > 0.85
    assert np.median(distance) == pytest.approx(12.0, rel=0.1)
    best = next(one for one in stability if one.number == 4)
    assert best.value > 0.98 > best.noise
    assert [one.number for one in stability] == [4, 5, 6, 7, 8]


def test_the_same_seed_gives_the_same_regimes():
    anomalies, _ = anomalies_of(600)
    one, two = (fit_regimes(anomalies, AREA, "auto") for _ in range(2))
    np.testing.assert_array_equal(one[0].centres, two[0].centres)
    assert [part.value for part in one[1]] == [part.value for part in two[1]]


def test_auto_takes_the_most_stable_number_that_noise_does_not_reach():
    assert most_stable([Stability(4, 0.9, 0.5), Stability(5, 0.9001, 0.5), Stability(6, 0.95, 0.96)]) == 4
    assert most_stable([Stability(4, 0.5, 0.6), Stability(5, 0.55, 0.6)]) == 5


def test_a_number_is_taken_as_it_is_asked_for():
    regimes, stability = fit_regimes(anomalies_of(600)[0], AREA, 3)
    assert regimes.number == 3
    assert [one.number for one in stability] == [3, 4, 5, 6, 7, 8]


def test_red_noise_is_no_more_stable_than_red_noise():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1500, CELLS))
    for day in range(1, len(noise)):
        noise[day] = 0.7 * noise[day - 1] + 0.7 * noise[day]
    _, stability = fit_regimes(noise, AREA, "auto")
    assert np.mean([one.value - one.noise for one in stability]) < 0.15


def test_weather_that_training_did_not_have_belongs_to_none():
    anomalies, _ = anomalies_of()
    regimes, _ = fit_regimes(anomalies, AREA, 4)
    strange = np.where(np.indices((6, 6)).sum(axis=0).ravel() % 2, 60.0, -60.0)
    assert regimes.assign(strange[None] + 12 * np.random.default_rng(1).standard_normal((50, CELLS)))[0].max() == 0


def test_too_few_days_and_constant_maps_are_refused():
    with pytest.raises(ValueError, match="too few"):
        fit_regimes(anomalies_of(60)[0], AREA, "auto")
    with pytest.raises(ValueError, match="never change"):
        fit_regimes(np.zeros((200, CELLS)), AREA, 4)


# --- anomalies --------------------------------------------------------------------------------------------------------------------


def test_an_annual_cycle_of_two_harmonics_leaves_nothing():
    days = years_of(2000, 2002)
    phase = 2 * np.pi * season_phase(days, "noleap")[:, None]
    maps = 5500 + 100 * np.cos(phase) * [1.0, 2.0] + 20 * np.sin(2 * phase)
    cycle = AnnualCycle.fit(days, "noleap", maps)
    np.testing.assert_allclose(cycle(days, "noleap"), maps, atol=1e-6)
    other = years_of(2000, 2000, "360_day")
    np.testing.assert_allclose(cycle(other, "360_day").mean(axis=0), maps.mean(axis=0), atol=1.0)
    few = AnnualCycle.fit(days[:50], "noleap", maps[:50])
    np.testing.assert_allclose(few(days[:3], "noleap"), np.broadcast_to(maps[:50].mean(axis=0), (3, 2)))


@pytest.mark.parametrize(("kind", "left"), [("pattern", 0.0), ("training", 25.0), ("own", 0.0)])
def test_a_rise_everywhere_counts_only_where_it_is_asked_for(tmp_path, kind, left):
    days = years_of(2000, 2001)
    maps, _ = planted(days)
    group = Group("R", days, {"perfect": maps + np.float32(25.0)})
    context = make_context(tmp_path, [group])
    found = ChannelDays.read(context, group, "perfect", np.arange(len(days)), 0)
    cycle = AnnualCycle.fit(days, "noleap", maps.reshape(len(days), -1))
    assert found.anomalies(cycle, AREA, kind).mean() == pytest.approx(left, abs=0.1)


# --- the tables ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """RCMu as planted; a GCM with other frequencies; an emulation that fails in regime 2; a later period 30 m higher."""
    folder = tmp_path_factory.mktemp("regimes")
    days = np.concatenate([years_of(1990, 1993), years_of(2000, 2001), years_of(2090, 2091)])
    late = np.where(days > 20900000, 30.0, 0.0)[:, None]
    maps, which = planted(days, 1, warming=late)
    other, _ = planted(days, 2, shares=(0.1, 0.2, 0.3, 0.4), warming=late + 10)
    other[-3, 0, 2, 2] = np.nan
    train, test = np.flatnonzero(days < 20000000), np.flatnonzero(days > 20000000)
    truth = np.full((len(days), 1, *FINE), 290.0, np.float32)
    truth[days > 20900000] += 2.0
    group = Group("R", days, {"perfect": maps, "imperfect": other}, truth=truth, splits={"train": train, "test": test})
    lone = Group("G", days[:730], {"imperfect": other[:730]})
    error = np.where(which[test] == 1, 3.0, 1.0)[:, None, None]
    far = {"ood_score": (np.where(which[test] == 1, 9.0, 1.0), 5.0)}
    write_prediction(folder, "net", group, "perfect", days[test], truth[test, 0] + error, series=far)
    write_prediction(folder, "ridge", group, "perfect", days[test], truth[test, 0] + 2 * error, role="baseline", model="ridge")
    context = make_context(folder, [group, lone])
    regime_tables.diagnose(context)
    return context, which[test]


def test_frequencies_are_those_that_were_planted(world):
    context, which = world
    rows = rows_of(context, "regime_frequency")
    assert {(row["case"], row["period"]) for row in rows} == {
        ("R/perfect", "training"),
        *((f"R/{kind}", period) for kind in ("perfect", "imperfect") for period in ("all", "2000-2001", "2090-2091")),
        ("G/imperfect", "all"),
    }
    own = [row for row in rows if (row["case"], row["period"], row["season"]) == ("R/perfect", "all", "ANN")]
    assert [row["regime"] for row in own] == [0, 1, 2, 3, 4]
    assert sum(row["frequency"] for row in own) == pytest.approx(1.0)
    assert [row["frequency"] for row in own[1:]] == pytest.approx(np.bincount(which, minlength=4) / len(which), abs=0.02)
    foreign = [row["frequency"] for row in rows if (row["case"], row["period"], row["season"]) == ("R/imperfect", "all", "ANN")]
    assert foreign[1:] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.07)
    assert all(row["lower"] <= row["frequency"] <= row["upper"] for row in own)
    assert own[1]["reference_frequency"] == pytest.approx(0.4, abs=0.05)
    single = [row for row in rows if (row["case"], row["period"], row["season"]) == ("R/imperfect", "2090-2091", "ANN")]
    assert np.isnan(single[0]["lower"])
    assert single[0]["n_days"] == 729


def test_errors_are_traced_to_the_regime_that_has_them(world):
    context, _ = world
    values = {(row["run"], row["regime"], row["metric"]): row["value"] for row in rows_of(context, "regime_scores")}
    assert values["net", 2, "rmse"] == pytest.approx(3.0, abs=0.05)
    assert values["net", 1, "bias"] == pytest.approx(1.0, abs=0.05)
    assert values["net", 2, "ood_share"] == pytest.approx(1.0, abs=0.02)
    assert values["net", 3, "ood_share"] == pytest.approx(0.0, abs=0.02)
    assert values["net", 2, "skill_vs_ridge"] == pytest.approx(0.75, abs=0.01)
    assert values["net", 1, "change_reference"] == pytest.approx(2.0, abs=0.05)
    assert values["net", 1, "change_bias"] == pytest.approx(0.0, abs=0.05)
    assert sum(values["net", regime, "error_share"] for regime in range(5) if ("net", regime, "error_share") in values) == pytest.approx(
        1.0
    )
    assert ("ridge", 1, "skill_vs_ridge") not in values
    assert ("ridge", 1, "ood_share") not in values


def test_the_maps_and_the_stability_are_written(world):
    context, _ = world
    with xr.open_dataset(context.folder / "regimes.nc") as dataset:
        expected = patterns() - np.average(patterns(), axis=0, weights=dataset["frequency"].values)  # the mean state is no anomaly
        np.testing.assert_allclose(dataset["composite"].values.reshape(4, -1), expected, atol=20)
        assert dataset.attrs["channel"] == "zg500"
        assert dataset["composite"].attrs["units"] == "m"
        assert dataset["lat"].shape == (6, 6)
        assert 0.5 < dataset.attrs["explained_variance"] <= 1
    chosen = [row["k"] for row in rows_of(context, "regime_stability") if row["chosen"]]
    assert chosen == [4]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6))
def test_frequencies_add_up_to_one(seed, number):
    rng = np.random.default_rng(seed)
    days = years_of(2000, 2003)
    one = Assigned("R/perfect", TimeTable(days, "noleap"), rng.integers(0, number + 1, len(days)))
    sums: dict[tuple, float] = {}
    for row in frequency_rows(one, [one], number):
        key = row["period"], row["season"]
        sums[key] = sums.get(key, 0.0) + row["frequency"]
        assert row["lower"] >= 0
    assert list(sums.values()) == pytest.approx([1.0] * len(sums))


# --- where it does not apply --------------------------------------------------------------------------------------------------------


def small(tmp_path, channels=("zg500",), n=365, **evaluate):
    days = years_of(2000, 2000)[:n]
    maps, _ = planted(days)
    group = Group("R", days, {"perfect": maps}, splits={"train": np.arange(n)})
    return make_context(tmp_path, [group], channels=channels, **evaluate)


def test_no_channel_few_days_and_no_training_are_said(tmp_path, caplog):
    with caplog.at_level("INFO"):
        for context in (small(tmp_path, channels=("hus850",)), small(tmp_path, n=50)):
            regime_tables.diagnose(context)
            assert not context.tables
        context.train_on = ("X/perfect",)
        regime_tables.diagnose(context)
    assert "neither zg500 nor psl" in caplog.text
    assert "too few" in caplog.text
    assert "no training days" in caplog.text


def test_psl_stands_in_and_an_unknown_channel_is_an_error(tmp_path):
    context = small(tmp_path, channels=("psl",), regimes={"number": 4})
    regime_tables.diagnose(context)
    assert rows_of(context, "regime_frequency")
    with pytest.raises(ConfigError, match="'zg700' is not a predictor channel"):
        regime_tables.diagnose(small(tmp_path, regimes={"channel": "zg700"}))


def test_a_channel_that_the_pairs_do_not_have_is_refused_before_the_first_block(tmp_path):
    """As when prepare dropped a constant channel that the config names."""
    cfg, store = make_workspace(tmp_path, size=12, runs=("resunet-A",))
    wanted = cfg.evaluate.model_copy(update={"regimes": cfg.evaluate.regimes.model_copy(update={"channel": "zg700"})})
    with pytest.raises(ConfigError, match="'zg700' is not a predictor channel"):
        evaluate_store(cfg.model_copy(update={"evaluate": wanted}), store, spread=lambda work, tasks: pytest.fail("a block was begun"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions"]
