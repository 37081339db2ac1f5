"""Scalings by month and without trend, and the statistics behind them: what they are, where they go, that nothing else gets in."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_world import make_world
from pydantic import ValidationError
from training_world import COARSE, FINE, SCALARS, make_config, make_store

torch = pytest.importorskip("torch")

from downscale.config.inputs import ForcingsConfig  # noqa: E402
from downscale.config.load import load_config  # noqa: E402
from downscale.config.scaling import NormaliseConfig  # noqa: E402
from downscale.errors import InputDataError  # noqa: E402
from downscale.models import Inputs, build  # noqa: E402
from downscale.models.transforms import InputTransform, TargetTransform  # noqa: E402
from downscale.pairs.normalise import compute_monthly, compute_statistics  # noqa: E402
from downscale.pairs.statistics import training_statistics  # noqa: E402
from downscale.pairs.trend import compute_trend  # noqa: E402
from downscale.training import modes, session  # noqa: E402
from downscale.training.assemble import load_statistics, model_spec, statistics_summary  # noqa: E402
from downscale.training.rehearse import rehearse  # noqa: E402
from downscale.training.run import load_run  # noqa: E402
from downscale.training.samples import load_samples, split_portions  # noqa: E402
from downscale.training.scaling import monthly_maps, require_scaling, scaling_digest  # noqa: E402

CASES = [("RCM_A", "perfect")]
WARMING = {year: 0.1 * (year - 2000) for year in range(1990, 2100)}


def forced_store(slope=1.5, noise=1.0):
    """make_store with a forcing GHG, 0.1 a year; tas, as predictor and as target, follows it by ``slope`` and 2 * ``slope``."""
    store = make_store()
    store.scalars = [*SCALARS, "GHG"]
    for group in store.groups.values():
        forcing = np.array([WARMING[year] for year in (group.days // 10000).tolist()], np.float32)
        group.arrays["scalars"] = np.column_stack([group.arrays["scalars"], forcing])
        for kind in ("perfect", "imperfect"):
            group.arrays[kind] = group.arrays[kind].copy()
            group.arrays[kind][:, 0] += slope * forcing[:, None, None]
        group.arrays["target"] = group.arrays["target"].copy()
        group.arrays["target"][:, 0] += 2 * slope * forcing[:, None, None]
    return store


def forced_config(workspace, *, normalise=None, **changes):
    forcings = ForcingsConfig(file="forcings.csv", columns=["GHG"])
    update = {"normalise": NormaliseConfig(**(normalise or {})), "forcings": forcings}
    return make_config(workspace, **changes).model_copy(update=update)


def inputs_of(group, index, kind="perfect"):
    arrays = (group.arrays[kind], group.arrays["scalars"], group.arrays["surface"], group.days.astype(np.int64))
    return Inputs(*(torch.from_numpy(array[index]) for array in arrays))


# --- the days of a batch -----------------------------------------------------------------------------------------------------


def test_days_travel_with_a_batch():
    maps, numbers = torch.zeros(4, 1, 2, 2), torch.zeros(4, 2)
    inputs = Inputs(maps, numbers, maps, torch.tensor([20000101, 20000201, 20000301, 20000401]))
    assert inputs[torch.tensor([2, 0])].days.tolist() == [20000301, 20000101]
    assert inputs[1:3].days.tolist() == [20000201, 20000301]
    assert inputs.to("cpu").days.dtype == torch.int64
    assert Inputs(maps, numbers, maps)[1:3].to("cpu").days is None


# --- by month ----------------------------------------------------------------------------------------------------------------


def test_monthly_scaling_by_hand():
    transform = InputTransform("monthly", 1, SCALARS, (1, 2))
    transform.mean[0], transform.mean[6] = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[11.0, 12.0]]])
    transform.std[0], transform.std[6] = 2.0, 4.0
    maps = torch.tensor([[[[5.0, 2.0]]], [[[15.0, 8.0]]]])
    shape, aux = transform(Inputs(maps, torch.zeros(2, 2), maps, torch.tensor([20500131, 19990701])))
    assert shape[:, 0, 0].tolist() == [[2.0, 0.0], [1.0, -1.0]]
    assert aux.shape == (2, 2)
    with pytest.raises(ValueError, match="days"):
        transform(Inputs(maps, torch.zeros(2, 2), maps))


def test_monthly_scaling_gives_each_month_mean_0_and_std_1():
    store = make_store()
    group = store.groups["RCM_A"]
    group.arrays["perfect"] += (30.0 * (group.days // 100 % 100 == 7))[:, None, None, None].astype(np.float32)
    cfg = forced_config("w", normalise={"predictors": "monthly"})
    statistics = training_statistics(store, CASES, {}, predictors="monthly")
    emulator = build(model_spec(cfg, store, cfg.model.model_dump(), statistics))
    load_statistics(emulator, statistics)
    maps = emulator.inputs(inputs_of(group, group.split("train")))[0]
    month = group.days[group.split("train")] // 100 % 100
    for one in (1, 4, 7, 10):
        np.testing.assert_allclose(maps[month == one].mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(maps[month == one].std(0, correction=0), 1, atol=1e-4)
    assert statistics_summary(emulator.spec, statistics)["days_by_month"] == [42, 0, 0, 42, 0, 0, 42, 0, 0, 42, 0, 0]
    assert bool(torch.isfinite(emulator.inputs.mean).all())


def test_months_without_days_enough_take_all_days(caplog):
    store = make_store()
    group = store.groups["RCM_A"]
    statistics = training_statistics(store, CASES, {}, predictors="monthly")
    mean, std = monthly_maps(statistics)
    np.testing.assert_array_equal(mean[1], statistics.predictor_mean)  # no February
    np.testing.assert_array_equal(std[1], statistics.predictor_std)
    np.testing.assert_array_equal(mean[0], statistics.monthly.mean[0])
    few = replace(statistics.monthly, days=np.array([9] + 11 * [100]))
    np.testing.assert_array_equal(monthly_maps(replace(statistics, monthly=few))[0][0], statistics.predictor_mean)
    group.arrays["perfect"][group.days // 100 % 100 == 1, 0, 0, 0] = 250.0  # a cell that never changes in January
    frozen = training_statistics(store, CASES, {}, predictors="monthly")
    mean, std = monthly_maps(frozen)
    assert mean[0, 0, 0, 0] == 250.0
    assert std[0, 0, 0, 0] == frozen.predictor_std[0, 0, 0] > 1
    cfg = forced_config("w", normalise={"predictors": "monthly"})
    load_statistics(build(model_spec(cfg, store, cfg.model.model_dump(), statistics)), statistics)
    assert "month(s) 2, 3, 5, 6, 8, 9, 11, 12 with fewer than 10" in caplog.text


def test_monthly_scaling_of_masked_and_dropped_channels_and_of_several_input_days():
    store = make_store()
    group = store.groups["RCM_A"]
    group.arrays["perfect"][group.days // 100 % 100 == 1, 0, 0, 0] = np.nan  # a level that is under the ground all January
    group.arrays["perfect"][:, 1] = 7.0
    cfg = forced_config("w", normalise={"predictors": "monthly"})
    cfg = cfg.model_copy(update={"missing": cfg.missing.model_copy(update={"below_ground": "mask"})})
    statistics = training_statistics(store, CASES, {}, predictors="monthly")
    spec = model_spec(cfg, store, cfg.model.model_dump(), statistics) | {"days": [-1, 0]}
    assert (spec["masked"], spec["dropped"]) == (["tas"], ["zg500"])
    emulator = build(spec)
    load_statistics(emulator, statistics)
    one = inputs_of(group, group.split("train")[:3])
    shape, _ = emulator.inputs(Inputs(torch.cat([one.predictors] * 2, 1), one.scalars, one.surface, one.days))
    assert shape.shape[1] == 4 + 2  # two channels on two days, two flags
    assert torch.isfinite(shape).all()
    torch.testing.assert_close(shape[:, :2], shape[:, 2:4], rtol=0, atol=0)
    assert (shape[:, 1] == 0).all()
    assert (shape[:, 0, 0, 0] == 0).all()
    assert (shape[:, 4, 0, 0] == 0).all()


# --- the linear part ---------------------------------------------------------------------------------------------------------


class Days:
    """A pair group of arrays; the last day tests."""

    def __init__(self, x, y, forcing):
        self.x, self.y, self.numbers = x, y, np.column_stack([np.zeros(len(x)), forcing]).astype("f4")

    def predictors(self, kind, index):
        return self.x[index]

    def target(self, index):
        return self.y[index]

    def scalars(self, index):
        return self.numbers[index]

    def split(self, name):
        return np.arange(len(self.x) - 1) if name == "train" else np.array([len(self.x) - 1])


def days(seed, n=300):
    rng = np.random.default_rng(seed)
    forcing = np.round(rng.uniform(1, 6, n), 2).astype("f4")
    x = rng.normal(5500, 20, (n, 1, 2, 3)) + 3.0 * forcing[:, None, None, None]
    y = np.exp(rng.normal(0, 1, (n, 2, 2, 2)) + 0.3 * forcing[:, None, None, None])
    x[rng.random(x.shape) < 0.2] = np.nan
    y[:, :, 0, 0] = np.nan
    return Days(x.astype("f4"), y.astype("f4"), forcing)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 600), transform=st.sampled_from(["standardise", "log1p", "sqrt"]))
def test_slopes_are_those_of_polyfit_whatever_the_blocks(seed, n, transform):
    groups = [days(seed, n), days(seed + 1, 40)]
    trend = compute_trend([(g, "perfect") for g in groups], "GHG", {"pr": transform}, ["tas", "pr"], ["season_cos", "GHG"])
    train = [g.split("train") for g in groups]
    x = np.concatenate([g.x[i] for g, i in zip(groups, train, strict=True)]).astype(float)
    y = np.concatenate([g.y[i] for g, i in zip(groups, train, strict=True)]).astype(float)[:, 1]
    y = {"standardise": y, "log1p": np.log1p(y), "sqrt": np.sqrt(y)}[transform]
    f = np.concatenate([g.numbers[i, 1] for g, i in zip(groups, train, strict=True)]).astype(float)
    there = np.isfinite(x[:, 0, 1, 2])
    assert trend.predictor[0, 1, 2] == pytest.approx(np.polyfit(f[there], x[there, 0, 1, 2], 1)[0], rel=1e-6, abs=1e-9)
    assert trend.target[1, 1, 0] == pytest.approx(np.polyfit(f, y[:, 1, 0], 1)[0], rel=1e-6, abs=1e-9)
    assert trend.target[1, 0, 0] == 0.0  # never valid
    assert trend.origin == pytest.approx(f.mean())


def test_targets_as_they_are_keep_their_trend_and_a_flat_forcing_is_refused():
    one = days(0)
    trend = compute_trend([(one, "perfect")], "GHG", {"pr": "none"}, ["tas", "pr"], ["season_cos", "GHG"])
    assert (trend.target[1] == 0).all()
    assert (trend.target[0, 1] != 0).all()
    with pytest.raises(InputDataError, match="no forcing 'CO2'"):
        compute_trend([(one, "perfect")], "CO2", {}, ["tas", "pr"], ["season_cos", "GHG"])
    one.numbers[:-1, 1] = 3.7  # differs on the test day alone
    with pytest.raises(InputDataError, match="never changes on the training days"):
        compute_trend([(one, "perfect")], "GHG", {}, ["tas", "pr"], ["season_cos", "GHG"])


def test_statistics_without_trend_are_of_the_residuals():
    one = days(3)
    names = (["tas", "pr"], ["season_cos", "GHG"])
    trend = compute_trend([(one, "perfect")], "GHG", {"pr": "log1p"}, *names)
    found = compute_statistics([(one, "perfect")], {"pr": "log1p"}, *names, trend)
    index = one.split("train")
    above = (one.numbers[index, 1].astype(float) - trend.origin)[:, None, None, None]
    x, y = one.x[index] - above * trend.predictor, np.log1p(one.y[index, 1].astype(float)) - above[:, 0] * trend.target[1]
    np.testing.assert_allclose(found.predictor_mean, np.nanmean(x, 0), rtol=1e-9)
    np.testing.assert_allclose(found.predictor_std, np.nanstd(x, 0), rtol=1e-7)
    np.testing.assert_allclose(found.target_std[1, 1], y.std(0)[1], rtol=1e-7)
    plain = compute_statistics([(one, "perfect")], {"pr": "log1p"}, *names)
    assert found.target_std[1, 1, 1] < plain.target_std[1, 1, 1]
    assert found.trend is trend
    assert plain.trend is plain.monthly is None
    assert found.digest != plain.digest


def test_what_a_network_sees_has_no_trend_left():
    store = forced_store(slope=40.0)
    cfg = forced_config("w", normalise={"detrend": "GHG"})
    statistics = training_statistics(store, CASES, {}, detrend="GHG")
    emulator = build(model_spec(cfg, store, cfg.model.model_dump(), statistics))
    load_statistics(emulator, statistics)
    group = store.groups["RCM_A"]
    train = inputs_of(group, group.split("train"))
    maps, aux = emulator.inputs(train)
    forcing = group.arrays["scalars"][group.split("train"), 2].astype(float)
    assert np.abs([np.corrcoef(forcing, maps[:, 0, y, x])[0, 1] for y in range(COARSE[0]) for x in range(COARSE[1])]).max() < 1e-3
    assert (aux[:, 0] == 0).all()  # the forcing itself
    assert aux.shape[1] == 3
    features = emulator.backbone.features
    torch.testing.assert_close(features.slope, emulator.inputs.slope, rtol=0, atol=0)
    truth = torch.from_numpy(group.arrays["target"][group.split("train")])
    scaled = emulator.to_loss_space(truth, train)
    land = scaled[:, 0, 3, 4].double().numpy()
    assert abs(np.corrcoef(forcing, land)[0, 1]) < 1e-3
    assert land.std() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(emulator.to_working(scaled, train), truth, rtol=1e-5, atol=1e-4, equal_nan=True)
    assert statistics_summary(emulator.spec, statistics)["detrend"]["column"] == "GHG"


def test_the_linear_part_goes_on_beyond_the_training_days():
    transform = TargetTransform(["standardise", "sqrt", "none"], [False, True, True], (1, 1))
    transform.detrend(2)
    transform.mean.copy_(torch.tensor([10.0, 2.0, 0.0])[:, None, None])
    transform.std.copy_(torch.tensor([2.0, 0.5, 1.0])[:, None, None])
    transform.slope.copy_(torch.tensor([3.0, 1.0, 0.0])[:, None, None])
    transform.origin.fill_(1.0)
    maps, numbers = torch.zeros(3, 1, 1, 1), torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 5.0], [0.0, 0.0, -5.0]])
    inputs = Inputs(maps, numbers, maps)
    fields = transform.inverse(torch.zeros(3, 3, 1, 1), inputs)[..., 0, 0]
    assert fields.tolist() == [[10.0, 4.0, 0.0], [22.0, 36.0, 0.0], [-8.0, 0.0, 0.0]]
    assert transform(torch.tensor([24.0, 49.0, 1.0]).view(1, 3, 1, 1), inputs[1:2]).flatten().tolist() == [1.0, 2.0, 1.0]
    with pytest.raises(ValueError, match="Inputs"):
        transform.inverse(torch.zeros(3, 3, 1, 1))


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["none", "standardise", "log1p", "sqrt"]),
    value=st.floats(0, 500, width=32),
    forcing=st.floats(-3, 3, width=32),
    slope=st.floats(-0.5, 0.5, width=32),
)
def test_every_target_transform_has_an_inverse(kind, value, forcing, slope):
    transform = TargetTransform([kind], [True], (1, 1)).double()
    transform.detrend(0)
    transform.double()
    transform.slope.fill_(0.0 if kind == "none" else slope)
    transform.mean.fill_(0.0 if kind == "none" else 1.3)
    transform.std.fill_(1.0 if kind == "none" else 0.7)
    inputs = Inputs(torch.zeros(1, 1, 1, 1), torch.tensor([[forcing]], dtype=torch.float64), torch.zeros(1, 1, 1, 1))
    field = torch.full((1, 1, 1, 1), value, dtype=torch.float64)
    assert float(transform.inverse(transform(field, inputs), inputs)) == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.fixture
def opened(monkeypatch):
    def use(store):
        monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: store))
        return store

    return use


@pytest.mark.parametrize(("mode", "backbone"), [("gridpoint", "ridge"), ("map", "none"), ("channel", "none"), ("monthly", "ridge")])
def test_a_forced_change_goes_through_any_network_as_its_linear_part(mode, backbone):
    """A warmer world whose predictors lie on their slopes gives the same weather plus the targets' slopes, whatever the weights."""
    store = forced_store()
    cfg = forced_config("w", model={"backbone": backbone, "dropout": 0.0}, normalise={"predictors": mode, "detrend": "GHG"})
    statistics = training_statistics(store, CASES, {}, predictors=mode, detrend="GHG")
    emulator = build(model_spec(cfg, store, cfg.model.model_dump(), statistics)).eval()
    load_statistics(emulator, statistics)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*emulator.named_parameters(), *emulator.named_buffers()]:
            if name.startswith("net.") or name == "backbone.weight":
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
        group = store.groups["RCM_A"]
        here = inputs_of(group, group.split("test")[:5])
        warmer = here.scalars.clone()
        warmer[:, 2] += 2.0
        there = replace(here, predictors=here.predictors + 2.0 * emulator.inputs.slope, scalars=warmer)
        change = emulator(there)[:, 0, :, 2:] - emulator(here)[:, 0, :, 2:]
        assert float(emulator.raw(here)[:, 0, :, 2:].std()) > 0.01
    expected = 2.0 * torch.from_numpy(statistics.trend.target[0, :, 2:]).float()
    torch.testing.assert_close(change, expected.expand_as(change), rtol=0, atol=5e-3)
    assert float(expected.mean()) == pytest.approx(2 * 2 * 1.5, abs=0.2)


def test_ridge_is_detrended_and_climatology_is_not(opened, tmp_path):
    opened(forced_store())
    cfg = forced_config(
        tmp_path,
        train={"on": ["RCM_A/perfect"], "epochs": 1, "baselines": ["ridge", "climatology", "bilinear"]},
        normalise={"detrend": "GHG"},
    )
    modes.train_run(cfg, device="cpu")
    specs = {
        name: load_run(tmp_path / "runs" / f"{name}-RCM_A-perfect", device="cpu").spec for name in ("ridge", "climatology", "bilinear")
    }
    assert [spec.get("detrend") for spec in specs.values()] == ["GHG", None, None]
    plain = cfg.model_copy(update={"normalise": NormaliseConfig()})
    from downscale.training.baselines import baseline_recipe

    store = make_store()
    assert "detrend" in baseline_recipe(cfg, store, "ridge")
    assert "detrend" not in baseline_recipe(cfg, store, "climatology")
    assert "detrend" not in baseline_recipe(plain, store, "ridge")


# --- config and recipes ------------------------------------------------------------------------------------------------------


def test_configs_without_the_new_keys_are_described_as_ever(tmp_path):
    assert NormaliseConfig().model_dump(exclude_none=True) == {"predictors": "gridpoint", "targets": {}}
    store, cfg = make_store(), make_config(tmp_path)
    assert "detrend" not in model_spec(cfg, store, cfg.model.model_dump())
    transform = InputTransform("gridpoint", 1, SCALARS, (2, 2))
    assert set(transform.state_dict()) == {"mean", "std", "scalar_mean", "scalar_std"}


def test_detrend_needs_a_forcing_of_the_config(tmp_path):
    with pytest.raises(ValidationError, match=r"normalise.detrend: 'GHG' is not one of forcings.columns \(none\)"):
        make_config(tmp_path, normalise={"detrend": "GHG"})


# --- the digest (X03; SCIENCE 6, traps 2 and 18) -----------------------------------------------------------------------------


def test_statistics_come_from_the_training_days_of_the_pairs_learned_from():
    """Trap 18: neither the test days nor the GCM's fields enter; trap 2: mean and std are of the same days."""
    store, other = forced_store(), forced_store()
    group = other.groups["RCM_A"]
    held_out = np.concatenate([group.split("validation"), group.split("test")])
    for name in ("perfect", "target"):
        group.arrays[name][held_out] += 100.0
    group.arrays["scalars"][held_out] += 100.0
    group.arrays["imperfect"] *= 3.0
    how = {"predictors": "monthly", "detrend": "GHG"}
    first, second = (training_statistics(one, CASES, {}, **how) for one in (store, other))
    assert first.digest == second.digest
    assert training_statistics(store, [("RCM_A", "imperfect")], {}, **how).digest != first.digest
    x = store.groups["RCM_A"].arrays["perfect"][group.split("train")].astype(float)
    plain = training_statistics(store, CASES, {})
    np.testing.assert_allclose(plain.predictor_mean, x.mean(0))
    np.testing.assert_allclose(plain.predictor_std, x.std(0))


def test_each_scaling_has_its_own_digest():
    store = forced_store()
    found = [
        training_statistics(store, CASES, {}),
        training_statistics(store, CASES, {}, predictors="monthly"),
        training_statistics(store, CASES, {}, detrend="GHG"),
        training_statistics(store, CASES, {}, predictors="monthly", detrend="GHG"),
    ]
    assert len({one.digest for one in found}) == 4
    detrended = compute_monthly([(store.groups["RCM_A"], "perfect")], found[3].trend)
    np.testing.assert_array_equal(found[3].monthly.mean, detrended.mean)
    assert not np.array_equal(found[3].monthly.mean, found[1].monthly.mean, equal_nan=True)


def test_a_second_time_nothing_is_read(tmp_path):
    store = forced_store()
    store.path = tmp_path / "pairs.zarr"
    for group in store.groups.values():
        group.attributes = {"digest": "1", "inventory": {}}
    how = {"predictors": "monthly", "detrend": "GHG"}
    first = training_statistics(store, CASES, {"pr": "sqrt"}, **how)
    assert len(list((tmp_path / "pairs.statistics").glob("*.safetensors"))) == 3
    for group in store.groups.values():
        group.arrays = {}
    again = training_statistics(store, CASES, {"pr": "sqrt"}, **how)
    assert again.digest == first.digest
    assert (again.trend.column, again.trend.origin) == (first.trend.column, first.trend.origin)
    for part in ("monthly", "trend"):
        one, other = getattr(first, part), getattr(again, part)
        assert all(np.array_equal(getattr(one, f.name), getattr(other, f.name), equal_nan=True) for f in fields(one))
    with pytest.raises(KeyError):
        training_statistics(store, CASES, {"pr": "log1p"}, **how)  # other transforms are other numbers


def small(workspace, **changes):
    train = {"on": ["RCM_A/perfect"], "epochs": 1, "batch_size": 32, "baselines": []}
    return forced_config(workspace, train=train, model={"name": "resunet", "width": 4, "backbone": "none", "dropout": 0.0}, **changes)


def test_a_run_with_files_of_another_run_is_refused(opened, tmp_path):
    opened(forced_store())
    path = modes.train_run(small(tmp_path), device="cpu")["artefact"]
    other = modes.train_run(small(tmp_path), name="other", device="cpu")["artefact"]
    assert load_run(path, device="cpu").card["scaling_sha256"] == scaling_digest(load_run(path, device="cpu").emulator)
    store = opened(forced_store(slope=9.0))
    store.split_digest = "t"
    foreign = modes.train_run(small(tmp_path), name="foreign", device="cpu")["artefact"]
    assert load_run(other, device="cpu").card["scaling_sha256"] == load_run(path, device="cpu").card["scaling_sha256"]
    whole = (path / "normaliser.json").read_text()
    (path / "normaliser.json").write_text((foreign / "normaliser.json").read_text())
    with pytest.raises(InputDataError, match="statistics of different training days") as caught:
        load_run(path, device="cpu")
    assert caught.value.code == 4
    assert "normaliser.json" in caught.value.findings[0]
    (path / "normaliser.json").write_text(whole)
    (path / "model.safetensors").write_bytes((foreign / "model.safetensors").read_bytes())
    with pytest.raises(InputDataError, match="statistics of different training days"):
        load_run(path, device="cpu")


def test_a_training_goes_on_only_with_the_statistics_it_began_with(opened, tmp_path, monkeypatch):
    store = opened(forced_store())
    cfg = small(tmp_path)

    def broken(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "fit", broken)
        with pytest.raises(KeyboardInterrupt):
            modes.train_run(cfg, device="cpu")
    store.groups["RCM_A"].arrays["perfect"][:] += 1.0  # other numbers under the same digests
    with pytest.raises(InputDataError, match="began with other statistics"):
        modes.train_run(cfg, device="cpu")
    store.groups["RCM_A"].arrays["perfect"][:] -= 1.0
    start = build(model_spec(cfg, store, cfg.model.model_dump()))
    require_scaling(start, start, tmp_path)


def test_a_monthly_detrended_run_from_end_to_end(opened, tmp_path):
    store = opened(forced_store())
    cfg = small(tmp_path, normalise={"predictors": "monthly", "detrend": "GHG", "targets": {"pr": "sqrt"}})
    path = modes.train_run(cfg, device="cpu")["artefact"]
    run = load_run(path, device="cpu")
    assert (run.spec["normalise"], run.spec["detrend"]) == ("monthly", "GHG")
    assert json.loads((path / "state" / "recipe.json").read_text())["normalise"]["detrend"] == "GHG"
    group = store.groups["RCM_A"]
    with torch.inference_mode():
        fields_ = run.emulator(inputs_of(group, group.split("test")))
    assert fields_.shape == (len(group.split("test")), 2, *FINE)
    assert torch.isfinite(fields_[..., 2:]).all()
    assert (fields_[:, 1, :, 2:] >= 0).all()
    cfg = small(tmp_path, normalise={"predictors": "monthly", "detrend": "GHG", "targets": {"pr": "sqrt"}}, finetune={"epochs": 1})
    tuned = load_run(modes.train_run(cfg, mode="finetune", source_run=path.name, device="cpu")["artefact"], device="cpu")
    assert tuned.card["statistics_digest"] == run.card["statistics_digest"]
    assert tuned.card["scaling_sha256"] == run.card["scaling_sha256"]
    samples = load_samples(split_portions(store, ["RCM_A/perfect"], "test"))
    assert samples.inputs.days.tolist() == group.days[group.split("test")].tolist()


def test_check_refuses_a_forcing_that_never_changes(tmp_path):
    config = make_world(tmp_path)
    cfg = load_config(config, ["normalise.detrend=CO2"])
    with pytest.raises(InputDataError, match="CO2 never changes on the training days") as caught:
        rehearse(cfg, workers=1)
    assert "87 training days, 370 throughout" in caught.value.where
