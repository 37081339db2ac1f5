"""Members: seeds, draws and dropout; the same draw whatever block, batch or order a day is computed in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, norm
from training_world import make_config, make_group, make_store

torch = pytest.importorskip("torch")

from downscale.apply.members import mean_and_spread, plan_members  # noqa: E402
from downscale.apply.predict import emulate  # noqa: E402
from downscale.config.trust import MembersConfig  # noqa: E402
from downscale.errors import ConfigError  # noqa: E402
from downscale.models.inputs import Inputs  # noqa: E402
from downscale.models.registry import build  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.run import load_run  # noqa: E402


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Three runs that differ in their seed, and a ridge."""
    store = make_store()
    path = tmp_path_factory.mktemp("members")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: store))
        train = {"on": ["RCM_A/perfect"], "epochs": 1, "baselines": ["ridge"], "seeds": [0, 2, 1]}
        cfg = make_config(path, train=train, model={"name": "resunet", "width": 4, "backbone": "none", "dropout": 0.2})
        modes.train_run(cfg, device="cpu")
    return [load_run(folder, device="cpu") for folder in sorted((path / "runs").iterdir())]


def other_network(run, heads=None, noise=0):
    """The run with a fresh network whose output layer says something."""
    spec = {**run.spec, **({"heads": heads} if heads else {}), **({"noise": noise} if noise else {})}
    torch.manual_seed(0)
    emulator = build(spec).eval()
    for name in ("inputs", "target"):
        getattr(emulator, name).load_state_dict(getattr(run.emulator, name).state_dict())
    torch.nn.init.normal_(emulator.net.head.weight, std=0.1)
    for name, parameter in emulator.named_parameters():
        if name.endswith("film.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return replace(run, spec=spec, emulator=emulator)


@pytest.fixture
def networks(seeds):
    run = seeds[0]
    heads = {"tas": {"kind": "gaussian"}, "pr": {"kind": "bernoulli_gamma", "wet_mm": 1.0}}
    return {"dropout": other_network(run), "gaussian": other_network(run, heads), "noise": other_network(run, noise=4)}


def arrays(index=slice(0, 40)):
    group = make_group()
    maps = group.arrays["perfect"][index]
    return maps, group.arrays["scalars"][index], maps, group.days[index].astype(np.int64)


def planned(of, run, number=4, **more):
    return plan_members(MembersConfig(of=of, number=number, **more), [run])[0]


CASES = [("samples", "gaussian"), ("samples", "noise"), ("dropout", "dropout")]


@pytest.mark.parametrize(("of", "network"), CASES)
def test_draws_do_not_depend_on_block_order_or_number(networks, of, network):
    members = planned(of, networks[network])
    whole = members.fields("x", *arrays())
    assert whole.shape == (40, 4, 2, 8, 10)
    parts = [members.fields("x", *arrays(slice(a, b))) for a, b in ((0, 1), (1, 27), (27, 40))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    some = np.array([30, 4, 17])
    np.testing.assert_array_equal(members.fields("x", *arrays(some)), whole[some])
    np.testing.assert_array_equal(planned(of, networks[network], 2).fields("x", *arrays()), whole[:, :2])
    torch.manual_seed(99)
    np.testing.assert_array_equal(members.fields("x", *arrays(slice(5, 6))), whole[5:6])


@pytest.mark.parametrize(("of", "network"), CASES)
def test_members_days_and_inputs_differ(networks, of, network):
    members = planned(of, networks[network])
    fields = members.fields("x", *arrays())[..., 3:]
    assert np.abs(fields[:, 0] - fields[:, 1]).max() > 1e-3
    assert np.abs(members.fields("y", *arrays())[..., 3:] - fields).max() > 1e-3
    same = [np.concatenate([part[:1]] * 2) for part in arrays()[:3]] + [np.array([20000101, 20000102])]
    two = members.fields("x", *same)[..., 3:]
    assert np.abs(two[0] - two[1]).max() > 1e-3


def test_gaussian_draws_have_the_networks_distribution(networks):
    run = networks["gaussian"]
    fields = planned("samples", run, 100).fields("x", *arrays(slice(0, 4)))[:, :, 0, :, 2:]
    parts = arrays(slice(0, 4))
    inputs = Inputs(*(torch.from_numpy(part) for part in parts))
    with torch.inference_mode():
        centre, spread = run.emulator._gaussians(run.emulator.raw(inputs))
        mean = run.emulator.to_working(centre, inputs)[:, 0, :, 2:].numpy()
    scale = spread[:, 0, :, 2:].numpy() * run.emulator.target.std[0, :, 2:].numpy()
    scores = (fields - mean[:, None]) / scale[:, None]
    assert kstest(scores.ravel(), norm.cdf).statistic < 0.02
    assert np.corrcoef(scores[:, 0].ravel(), scores[:, 1].ravel())[0, 1] == pytest.approx(0, abs=0.15)


def test_dropout_draws_scatter_around_the_estimate_and_leave_the_network_alone(networks):
    run = networks["dropout"]
    before = emulate(run, *arrays())
    fields = planned("dropout", run, 40).fields("x", *arrays())
    np.testing.assert_array_equal(emulate(run, *arrays()), before)
    spread = fields.std(axis=1)[..., 3:]
    assert spread.min() > 0
    away = np.abs(fields.mean(axis=1) - before)[:, 0, :, 3:]
    assert away.mean() < 0.5 * spread[:, 0].mean()


def test_runs_of_several_seeds_are_one_ensemble(seeds):
    (members,) = plan_members(MembersConfig(of="seeds"), seeds)
    assert members.number == 3
    assert [run.card["recipe"]["settings"]["seed"] for run in members.runs] == [0, 1, 2]
    assert members.name == "resunet-RCM_A-perfect-seeds"
    assert members.labels == ("resunet-RCM_A-perfect", "resunet-RCM_A-perfect-seed1", "resunet-RCM_A-perfect-seed2")
    fields = members.fields("x", *arrays())
    for position, run in enumerate(members.runs):
        np.testing.assert_array_equal(fields[:, position], emulate(run, *arrays()))
    (two,) = plan_members(MembersConfig(of="seeds", number=2), seeds)
    np.testing.assert_array_equal(two.fields("x", *arrays()), fields[:, :2])
    assert two.facts["runs"] == [run.model_id for run in members.runs[:2]]


def test_what_gives_no_members_is_said(seeds, networks, caplog):
    ridge = next(run for run in seeds if run.path.name.startswith("ridge"))
    with caplog.at_level("INFO"):
        assert len(plan_members(MembersConfig(of="samples"), [ridge, networks["noise"]])) == 1
    assert "ridge-RCM_A-perfect is left out: it gives single values" in caplog.text
    for of, runs, reason in (
        ("samples", [ridge], "single values"),
        ("dropout", [ridge], "no dropout"),
        ("seeds", seeds[:1], "one seed"),
    ):
        with pytest.raises(ConfigError, match="no run gives members") as caught:
            plan_members(MembersConfig(of=of), runs)
        assert reason in caught.value.where
        assert caught.value.code == 2
    with pytest.raises(ConfigError, match="there are 3 seeds"):
        plan_members(MembersConfig(of="seeds", number=4), seeds)


def test_mean_and_spread_by_hand():
    fields = np.array([[1.0, 3.0, 8.0], [2.0, 2.0, np.nan]], np.float32)[:, :, None, None, None]
    mean, spread = mean_and_spread(fields)
    assert mean.shape == spread.shape == (2, 1, 1, 1)
    assert (mean[0].item(), spread[0].item()) == (4.0, pytest.approx(np.std([1, 3, 8], ddof=1)))
    assert np.isnan(mean[1]).all()
    assert np.isnan(spread[1]).all()


def test_ten_draws_where_nothing_is_said(networks):
    members = plan_members(MembersConfig(of="samples"), [networks["gaussian"]])[0]
    assert members.labels == tuple(str(n) for n in range(1, 11))
    assert members.name.endswith("-samples")
