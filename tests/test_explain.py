"""downscale explain: exact answers of a linear emulator, perturbed predictors, and files that are written, kept and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from training_world import COARSE, FINE, make_config, make_store

torch = pytest.importorskip("torch")

from downscale.apply import jobs  # noqa: E402
from downscale.apply.attribute import integrated_gradients  # noqa: E402
from downscale.apply.explain import Effort, area_weights, baseline_of, explain, explain_run, sample  # noqa: E402
from downscale.apply.feed import GroupFeed  # noqa: E402
from downscale.apply.perturb import PERTURBATIONS, applicable  # noqa: E402
from downscale.apply.predict import emulate  # noqa: E402
from downscale.errors import ConfigError, InputDataError, OutputExistsError, Stopped  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.run import load_run  # noqa: E402
from downscale.variables import Channel  # noqa: E402

NET, RIDGE = "resunet-RCM_A-perfect", "ridge-RCM_A-perfect"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A network, a ridge and a bilinear run in a workspace, and the store."""
    store, patch = make_store(), pytest.MonkeyPatch()
    for group in store.groups.values():
        group.attributes["notes"] = []
        patch.setattr(type(group), "notes", property(lambda self: []), raising=False)
    for module in (modes, jobs):
        patch.setattr(module.PairStore, "open", classmethod(lambda cls, *arguments: store))
    model = {"name": "resunet", "width": 4, "backbone": "none", "dropout": 0.0}
    train = {"on": ["RCM_A/perfect"], "epochs": 1, "batch_size": 32, "baselines": ["ridge", "bilinear"]}
    cfg = make_config(tmp_path_factory.mktemp("explain"), train=train, model=model)
    modes.train_run(cfg, device="cpu")
    yield cfg, store
    patch.undo()


def run_of(workspace, name):
    return load_run(workspace[0].workspace_path() / "runs" / name, device="cpu")


def days_of(workspace, n=6):
    group = workspace[1].groups["RCM_A"]
    index = group.split("test")[:n]
    return group.arrays["perfect"][index], group.arrays["scalars"][index], group.arrays["surface"][index], group.days[index]


# --- gradients ----------------------------------------------------------------------------------------------------------------


def test_contributions_of_a_linear_emulator_are_exact(workspace):
    """Of tas, which is not clipped: change times slope, cell by cell, whatever the number of steps."""
    run, days = run_of(workspace, RIDGE), days_of(workspace)
    baseline, weights = baseline_of(run), area_weights(run)
    found = integrated_gradients(run, days, baseline, weights, steps=1)
    assert found.error[0] < 1e-3
    assert found.maps.shape == (6, 2, 2, *COARSE)
    changed = days[0].copy()
    changed[:, 1, 2, 3] = baseline[1, 2, 3]
    apart = emulate(run, *days) - emulate(run, changed, *days[1:])
    means = (np.nan_to_num(apart[:, 0]) * weights[0]).sum(axis=(1, 2))
    np.testing.assert_allclose(found.maps[:, 0, 1, 2, 3], means, atol=2e-3)


def test_contributions_of_a_network_add_up_to_what_is_gained(workspace, monkeypatch):
    run, days = run_of(workspace, NET), days_of(workspace)
    monkeypatch.setattr(run.emulator, "net", Curved())
    errors = [integrated_gradients(run, days, baseline_of(run), area_weights(run), steps=steps).error for steps in (1, 16)]
    assert (errors[1] < 0.005).all()
    assert (errors[1] < 0.2 * errors[0]).all()


class Curved(torch.nn.Module):
    """A bent function of all cells."""

    def forward(self, maps, aux, hint=None):
        found = torch.tanh(maps.flatten(1).sum(1) / 5) + 0.1 * maps.flatten(1).square().sum(1)
        return torch.stack([found, 0.5 * found + maps[:, 0, 0, 0]], 1)[:, :, None, None].expand(-1, -1, *FINE)


def test_a_channel_that_is_not_read_contributes_nothing(workspace):
    run = run_of(workspace, RIDGE)
    weight = run.emulator.backbone.weight.view(2, COARSE[0] * COARSE[1], -1) if run.emulator.backbone.weight.shape[0] == 40 else None
    with torch.no_grad():
        (weight[1] if weight is not None else run.emulator.backbone.weight[20:40]).zero_()
    found = integrated_gradients(run, days_of(workspace), baseline_of(run), area_weights(run), steps=2)
    assert np.abs(found.maps[:, :, 1]).max() == 0
    assert np.abs(found.maps[:, 0, 0]).max() > 0


def test_weights_are_shares_of_the_cells_with_truth(workspace):
    weights = area_weights(run_of(workspace, NET))
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1.0)
    assert (weights[..., :2] == 0).all()
    assert (weights[..., 2:] > 0).all()
    assert weights[0, 0, 5] > weights[0, -1, 5]  # cells get smaller to the north


def test_gradients_that_are_not_finite_are_an_error(workspace):
    run = run_of(workspace, RIDGE)
    with torch.no_grad():
        run.emulator.backbone.weight[3, 5] = torch.nan
    with pytest.raises(InputDataError, match="not finite"):
        integrated_gradients(run, days_of(workspace), baseline_of(run), np.full((2, *FINE), 1 / 80), steps=1)


def test_the_baseline_is_the_mean_of_the_training_days(workspace):
    run, group = run_of(workspace, NET), workspace[1].groups["RCM_A"]
    np.testing.assert_allclose(baseline_of(run), group.arrays["perfect"][group.split("train")].mean(axis=0), rtol=1e-4)
    plain = baseline_of(replace(run, card={**run.card, "novelty": None}))
    assert np.ptp(plain[0]) == 0
    assert plain[0, 0, 0] == pytest.approx(280, abs=1)
    several = replace(run, spec={**run.spec, "days": [-1, 0]})
    assert baseline_of(several).shape == (4, *COARSE)


# --- perturbations ---------------------------------------------------------------------------------------------------------------


def test_what_each_perturbation_changes():
    channels = [Channel.parse(name) for name in ("ta850", "tas", "hus700", "ua850", "va500", "zg500")]
    found = {one.name: places for one, places in applicable(channels).items()}
    assert found == {
        "temperature_plus_1K": [0, 1],
        "humidity_plus_10pct": [2],
        "eastward_wind_plus_1ms": [3],
        "northward_wind_plus_1ms": [4],
        "winds_one_cell_along_x": [3, 4],
        "winds_one_cell_along_y": [3, 4],
    }
    assert "humidity_plus_10pct" not in {one.name for one in applicable(channels, dropped=["hus700"])}
    assert applicable([Channel.parse("zg500")]) == {}


def test_changes_are_exact_and_leave_the_rest_alone():
    maps = np.random.default_rng(0).standard_normal((3, 4, 4, 5)).astype(np.float32)  # two days of two channels
    before = maps.copy()
    by_name = {one.name: one for one in PERTURBATIONS}
    warmer = by_name["temperature_plus_1K"](maps, [1], 2)
    np.testing.assert_array_equal(warmer[:, [0, 2]], maps[:, [0, 2]])
    np.testing.assert_allclose(warmer[:, [1, 3]], maps[:, [1, 3]] + 1, rtol=1e-6)
    np.testing.assert_allclose(by_name["humidity_plus_10pct"](maps, [0], 2)[:, 0], 1.1 * maps[:, 0], rtol=1e-6)
    along_x = by_name["winds_one_cell_along_x"](maps, [0, 1], 2)
    np.testing.assert_array_equal(along_x[..., 1:], maps[..., :-1])
    np.testing.assert_array_equal(along_x[..., 0], maps[..., 0])
    along_y = by_name["winds_one_cell_along_y"](maps, [0, 1], 2)
    np.testing.assert_array_equal(along_y[:, :, 1:], maps[:, :, :-1])
    np.testing.assert_array_equal(maps, before)


# --- the whole -------------------------------------------------------------------------------------------------------------------


def test_the_same_number_of_days_of_each_season_evenly_chosen():
    days = np.array([20000101 + day for day in range(31)] + [20000701 + day for day in range(31)] + [20001001])
    chosen = days[sample(days, 4)]
    assert list(chosen // 100) == [200001] * 4 + [200007] * 4 + [200010]
    assert chosen[0] == 20000101
    assert chosen[3] == 20000131


def test_the_response_to_a_warmer_world_is_what_was_planted(workspace):
    """The truth of tas is 285 plus the coarse field in units of its standard deviation, about 3 K: a third of a kelvin a kelvin."""
    run, group = run_of(workspace, RIDGE), workspace[1].groups["RCM_A"]
    found = explain(run, GroupFeed(group, "perfect", group.split("test")), 4, SimpleNamespace(set=False))
    assert found.seasons == ["DJF", "MAM", "JJA", "SON", "ANN"]
    assert list(found.perturbations) == ["temperature_plus_1K"]
    assert found.daily_responses[0, 0] == pytest.approx(1 / 3, rel=0.15)
    assert found.daily_means[0] == pytest.approx(285, abs=1.5)
    assert found.importance[0].sum(axis=1) == pytest.approx(1.0)
    assert found.importance[0, -1, 0] > 0.55  # twice the slope of the other channel
    np.testing.assert_allclose(found.responses[0, 0, -1, :, 2:], found.responses[0, 0, :4, :, 2:].mean(axis=0), atol=1e-4)
    assert np.isnan(found.responses[0, 0, :, :, :2]).all()


def test_missing_cells_stand_at_their_mean_and_days_without_a_map_are_left_out(workspace):
    run, group = run_of(workspace, NET), workspace[1].groups["RCM_A"]
    holed = replace(group, arrays={**group.arrays, "perfect": group.arrays["perfect"].copy()})
    index = group.split("test")
    holed.arrays["perfect"][index[0]] = np.nan
    found = explain(run, GroupFeed(holed, "perfect", index), 2, SimpleNamespace(set=False))
    assert len(found.days) == len(index) - 1
    assert np.isfinite(found.attribution).all()
    holed.arrays["perfect"][index] = np.nan
    with pytest.raises(InputDataError, match="no day has all predictors"):
        explain(run, GroupFeed(holed, "perfect", index), 2, SimpleNamespace(set=False))


def test_a_stop_is_heeded(workspace):
    group = workspace[1].groups["RCM_A"]
    with pytest.raises(Stopped):
        explain(run_of(workspace, NET), GroupFeed(group, "perfect", group.split("test")), 2, SimpleNamespace(set=True, name="SIGTERM"))


def test_files_are_written_kept_and_not_replaced_unasked(workspace):
    cfg, _ = workspace
    effort = Effort(days=2, steps=2)
    said = explain_run(cfg, run=NET, sources=["RCM_A", "GCM_B"], effort=effort, device="cpu")
    folder = cfg.workspace_path() / "explain" / NET
    assert said["artefact"] == folder
    assert sorted(path.name for path in folder.glob("*.nc")) == ["RCM_A_perfect.nc", "RCM_B_imperfect.nc"]
    with xr.open_dataset(folder / "RCM_A_perfect.nc") as dataset:
        assert dataset.sizes["time"] == 8
        assert dataset["attribution_tas"].dims == ("season", "channel", "coarse_y", "coarse_x")
        assert dataset["importance_pr"].sum("channel").values == pytest.approx(1.0)
        assert dataset["response_tas"].attrs["units"] == "K"
        assert dataset.attrs["Conventions"] == "CF-1.11"
        assert dataset.attrs["downscale_model_id"].startswith(NET)
        assert dataset.attrs["history"].endswith("explain")
        assert json.loads(dataset.attrs["recipe"])["steps"] == 2
    again = explain_run(cfg, run=NET, sources=["RCM_A"], effort=effort, device="cpu")
    assert again["cases"] == ["RCM_A_perfect.nc: complete already"]
    with pytest.raises(OutputExistsError, match="another recipe") as error:
        explain_run(cfg, run=NET, sources=["RCM_A"], effort=Effort(days=2, steps=3), device="cpu")
    assert any("steps" in finding for finding in error.value.findings)
    explain_run(cfg, run=NET, sources=["RCM_A"], effort=Effort(days=2, steps=3), device="cpu", overwrite=True)
    would = explain_run(cfg, run=RIDGE, effort=effort, device="cpu", dry_run=True)
    assert len(would["would write"]) == 4
    assert not (cfg.workspace_path() / "explain" / RIDGE).exists()


def test_what_cannot_be_explained_is_refused(workspace):
    cfg, _ = workspace
    with pytest.raises(InputDataError, match="reads no predictor maps"):
        explain_run(cfg, run="bilinear-RCM_A-perfect", device="cpu")
    with pytest.raises(InputDataError, match="there is no run"):
        explain_run(cfg, run="nobody", device="cpu")
    with pytest.raises(ConfigError, match="no source 'X'"):
        explain_run(cfg, run=NET, sources=["X"], device="cpu")
    with pytest.raises(ConfigError, match="at least 1"):
        explain_run(cfg, run=NET, effort=Effort(days=0), device="cpu")
