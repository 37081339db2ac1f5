"""Losses from the config to the run folder: heads, noise, means and draws, what is refused, what a training learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")

from model_samples import inputs_of, spec_of  # noqa: E402
from training_world import make_config, make_store  # noqa: E402

from downscale.config.losses import LossConfig  # noqa: E402
from downscale.errors import InputDataError, Stopped  # noqa: E402
from downscale.models import build  # noqa: E402
from downscale.models.emulator import Emulator  # noqa: E402
from downscale.models.inputs import Inputs  # noqa: E402
from downscale.models.transforms import InputTransform, TargetTransform  # noqa: E402
from downscale.pairs.gamma import fit_gamma  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.feed import MemoryDays  # noqa: E402
from downscale.training.loop import fit  # noqa: E402
from downscale.training.loss_fields import loss_misfits, training_loss, work_out_weights  # noqa: E402
from downscale.training.losses import LossFields, make_loss  # noqa: E402
from downscale.training.run import load_run  # noqa: E402
from downscale.training.samples import Portion, load_samples, split_portions  # noqa: E402
from downscale.training.state import Settings, State  # noqa: E402

GAUSSIAN, RAIN = {"kind": "gaussian"}, {"kind": "bernoulli_gamma", "wet_mm": 1.0}


class Constant(torch.nn.Module):
    """A network whose channels are the same everywhere; with noise, the second number of the noise is added to the first channel."""

    def __init__(self, channels, values, cells=(1, 1)):
        super().__init__()
        self.values = torch.nn.Parameter(torch.tensor(values).view(1, channels, 1, 1).expand(-1, -1, *cells).clone())

    def forward(self, maps, aux, hint=None):
        return self.values.expand(len(maps), -1, -1, -1)


def emulator_of(values, *, heads=None, kind="none", non_negative=False, net=None, cells=(1, 1), noise=0, targets=("pr",)):
    """An emulator whose network is Constant."""
    spec = {"targets": list(targets), **({"heads": heads} if heads else {}), **({"noise": noise} if noise else {})}
    target = TargetTransform([kind] * len(targets), [non_negative] * len(targets), cells)
    net = net or Constant(len(values), values, cells)
    return Emulator(spec, target, inputs=InputTransform("channel", 1, ["season_cos"], (1, 1)), net=net).eval()


def days(n):
    return Inputs(torch.zeros(n, 1, 1, 1), torch.zeros(n, 1), torch.zeros(n, 1, 1, 1))


def spread(variance):
    return math.log(math.expm1(variance - 1e-4))


# --- means and draws ---------------------------------------------------------------------------------------------------------


def test_the_mean_of_rain_is_chance_times_amount():
    """p (a b + 1 mm): 1/2 (e^0.5 e^1 + 1)."""
    emulator = emulator_of([0.0, 0.5, 1.0], heads={"pr": RAIN}, non_negative=True)
    assert emulator(days(2)).flatten().tolist() == pytest.approx([0.5 * (math.exp(1.5) + 1 - 1e-6)] * 2)


def test_draws_of_rain_are_dry_or_wet_and_have_the_mean():
    emulator = emulator_of([0.4, 0.5, 1.0], heads={"pr": RAIN}, non_negative=True)
    draws = emulator.sample(days(20_000), 3, torch.Generator().manual_seed(0))
    assert draws.shape == (3, 20_000, 1, 1, 1)
    wet = draws > 0
    assert draws[wet].min() >= 1.0 - 2e-6 and not draws[~wet].any()
    assert wet.double().mean().item() == pytest.approx(1 / (1 + math.exp(-0.4)), abs=0.01)
    assert draws.mean().item() == pytest.approx(emulator(days(1)).item(), rel=0.02)
    assert torch.equal(draws, emulator.sample(days(20_000), 3, torch.Generator().manual_seed(0)))


def test_a_gaussian_in_working_units_has_its_mean_and_spread():
    emulator = emulator_of([1.5, spread(4.0)], heads={"pr": GAUSSIAN}, kind="standardise")
    emulator.target.mean.fill_(10.0)
    emulator.target.std.fill_(3.0)
    assert emulator(days(1)).item() == pytest.approx(14.5)
    draws = emulator.sample(days(20_000), 2, torch.Generator().manual_seed(0))
    assert draws.mean().item() == pytest.approx(14.5, abs=0.15) and draws.std().item() == pytest.approx(6.0, rel=0.02)


@pytest.mark.parametrize(("kind", "wanted"), [("sqrt", 9.0 + 0.25), ("log1p", math.exp(3.0 + 0.125) - 1)])
def test_the_mean_of_a_bent_gaussian_is_not_the_bent_mean(kind, wanted):
    """E z^2 = m^2 + v and E exp z = exp(m + v / 2), far from the clip at 0."""
    emulator = emulator_of([3.0, spread(0.25)], heads={"pr": GAUSSIAN}, kind=kind, non_negative=True)
    assert emulator(days(1)).item() == pytest.approx(wanted, rel=1e-4)


def test_the_mean_of_a_clipped_gaussian_is_above_the_mean():
    """E max(z, 0) of a standard normal is 1 / sqrt(2 pi); seven nodes come within 15 % of it."""
    emulator = emulator_of([0.0, spread(1.0)], heads={"pr": GAUSSIAN}, non_negative=True)
    assert emulator(days(1)).item() == pytest.approx(1 / math.sqrt(2 * math.pi), rel=0.15)
    draws = emulator.sample(days(20_000), 2, torch.Generator().manual_seed(0))
    assert draws.min() == 0.0 and draws.mean().item() == pytest.approx(1 / math.sqrt(2 * math.pi), rel=0.03)


@pytest.mark.parametrize("heads", [{}, {"tas": GAUSSIAN, "pr": RAIN}])
def test_cells_never_valid_stay_missing(heads):
    emulator = build(spec_of(heads=heads) if heads else spec_of()).eval()
    emulator.target.mean[:, :3] = torch.nan
    inputs = inputs_of(emulator.spec)
    for fields in (emulator(inputs), *emulator.sample(inputs, 2)):
        assert torch.isnan(fields[:, :, :3]).all() and torch.isfinite(fields[:, :, 3:]).all()


def test_an_emulator_of_single_values_draws_its_mean():
    emulator = build(spec_of()).eval()
    inputs = inputs_of(emulator.spec)
    assert torch.equal(emulator.sample(inputs, 3), emulator(inputs).expand(3, -1, -1, -1, -1))


@pytest.mark.parametrize("name", ["resunet", "unet_doury"])
def test_noise_makes_members_and_the_mean_does_not_depend_on_the_batch(name):
    spec = spec_of(name, fine=(16, 16), noise=4)
    torch.manual_seed(0)
    emulator = build(spec).eval()
    for value in emulator.parameters():
        value.data += 0.05 * torch.randn(value.shape)
    inputs = inputs_of(spec, 5)
    draws = emulator.sample(inputs, 3, torch.Generator().manual_seed(0))
    assert torch.equal(draws, emulator.sample(inputs, 3, torch.Generator().manual_seed(0)))
    assert (draws[0] - draws[1]).abs().max() > 0
    whole = emulator(inputs)
    torch.testing.assert_close(whole, torch.cat([emulator(inputs[:2]), emulator(inputs[2:])]), rtol=1e-4, atol=1e-4)
    again = build(spec)
    again.load_state_dict(emulator.state_dict())
    assert torch.equal(again.eval()(inputs), whole)
    assert emulator.state_dict()["noise"].shape == (8, 4)


def test_the_backbone_is_added_to_means_and_hinted_to_rain():
    spec = spec_of(backbone="ridge", heads={"tas": GAUSSIAN, "pr": RAIN})
    emulator = build(spec).eval()
    emulator.backbone.intercept += 7.0
    raw = emulator.raw(inputs_of(spec))
    assert raw.shape == (3, 5, 32, 32)
    assert raw[:, 0].mean().item() == pytest.approx(7.0) and not raw[:, 1:].any()
    for value in emulator.net.parameters():
        value.data += 0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    first = emulator.raw(inputs_of(spec))[:, 2:].clone()
    emulator.backbone.intercept += 1.0
    assert not torch.equal(emulator.raw(inputs_of(spec))[:, 2:], first)


# --- what is learned ---------------------------------------------------------------------------------------------------------


class Spread(torch.nn.Module):
    """m + s * (first number of the noise)."""

    def __init__(self):
        super().__init__()
        self.m, self.s = torch.nn.Parameter(torch.tensor(0.0)), torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, maps, aux, hint=None):
        return (self.m + self.s * aux[:, -1])[:, None, None, None]


def learn(emulator, loss, truth, steps, rate):
    optimiser = torch.optim.Adam(emulator.net.parameters(), lr=rate)
    emulator.train()
    for _ in range(steps):
        optimiser.zero_grad()
        loss.combine(*loss.totals(emulator, days(len(truth)), truth)).backward()
        optimiser.step()
    return emulator.eval()


def test_fair_crps_learns_the_spread():
    """Members m + s z fitted to normal truth of mean 2 and standard deviation 1.5."""
    torch.manual_seed(0)
    emulator = emulator_of([], net=Spread(), noise=1)
    truth = 2.0 + 1.5 * torch.randn(1000, 1, 1, 1)
    learn(emulator, make_loss("afcrps", "none", options={"members": 2}), truth, 120, 0.08)
    assert emulator.net.m.item() == pytest.approx(2.0, abs=0.15)
    assert abs(emulator.net.s.item()) == pytest.approx(1.5, abs=0.15)


def test_likelihood_learns_chance_and_amount():
    torch.manual_seed(0)
    emulator = emulator_of([0.0, 0.0, 0.0], heads={"pr": RAIN}, non_negative=True)
    wet = torch.rand(4000, 1, 1, 1) < 0.3
    truth = torch.where(wet, 1.0 + torch.distributions.Gamma(0.8, 0.2).sample((4000, 1, 1, 1)), 0.5)
    learn(emulator, make_loss("bernoulli_gamma", "none"), truth, 150, 0.06)
    logit, log_shape, log_scale = emulator.net.values.flatten().tolist()
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(0.3, abs=0.03)
    assert math.exp(log_shape) == pytest.approx(0.8, rel=0.1) and math.exp(log_scale) == pytest.approx(5.0, rel=0.15)
    assert emulator(days(1)).item() == pytest.approx(truth.where(wet, 0).mean().item(), rel=0.03)


def test_asymmetry_raises_the_estimate_of_heavy_rain():
    """The best constant is the median under mae; with W it lies higher."""
    truth = 1.0 + torch.distributions.Exponential(0.2).sample((2000, 1, 1, 1))
    gamma = {"pr": (torch.tensor([[1.0]]), torch.tensor([[5.0]]))}
    found = []
    for asymmetry in (0.0, 4.0):
        options = {"asymmetry": asymmetry, "asymmetry_power": 2.0}
        fields = LossFields(gamma=gamma)
        emulator = emulator_of([2.0])
        learn(emulator, make_loss("asymmetric_gamma", "none", targets=["pr"], options=options, fields=fields), truth, 100, 0.15)
        found.append(emulator(days(1)).item())
    assert found[0] == pytest.approx(truth.median().item(), abs=0.2) and found[1] > found[0] + 1.0


# --- config ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"huber_delta": 2.0}, "huber_delta belongs to huber"),
        ({"asymmetry": 2.0, "name": "huber"}, "asymmetry belongs to asymmetric_gamma"),
        ({"members": 3}, "members belongs to afcrps"),
        ({"noise": 3, "targets": {"pr": "gaussian"}}, "noise belongs to afcrps"),
        ({"wet_threshold": 2.0}, "wet_threshold belongs to bernoulli_gamma"),
        ({"members": 1, "name": "afcrps"}, "greater than or equal to 2"),
        ({"name": "crps"}, "name"),
    ],
)
def test_options_of_other_losses_are_refused(section, said):
    with pytest.raises(ValidationError, match=said):
        LossConfig.model_validate(section)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"loss": {"targets": {"tasmax": "mae"}}}, "tasmax is not a target"),
        ({"loss": {"name": "bernoulli_gamma"}}, "bernoulli_gamma is for precipitation, not for tas"),
        ({"loss": {"name": "asymmetric_gamma"}}, "asymmetric_gamma is for precipitation, not for tas"),
        ({"loss": {"targets": {"pr": "bernoulli_gamma"}}, "normalise": {"targets": {"pr": "sqrt"}}}, "leave the transform out"),
        (
            {
                "loss": {"targets": {"pr": "bernoulli_gamma"}},
                "normalise": {"detrend": "a"},
                "forcings": {"file": "f.csv", "columns": ["a"]},
            },
            "no trend to be put back",
        ),
        ({"loss": {"land_only": True}}, "static: \\[sftlf\\]"),
    ],
)
def test_losses_that_do_not_fit_the_experiment_are_refused(tmp_path, sections, said):
    with pytest.raises(ValidationError, match=said):
        config_with(tmp_path, **sections)


def config_with(workspace, *, static=None, **sections):
    """make_config with any section, validated anew."""
    values = make_config(workspace).model_dump()
    for name, section in sections.items():
        values[name] = {**(values[name] or {}), **section}
    return type(make_config(workspace)).model_validate(values | ({} if static is None else {"static": static}))


def test_outputs_and_recipe_only_say_what_is_used():
    plain = LossConfig()
    assert plain.outputs(["tas", "pr"]) == {} and plain.recipe() == {}
    assert LossConfig(name="mae", balance="none").recipe() == {}
    mixed = LossConfig(name="afcrps", targets={"pr": "bernoulli_gamma"}, wet_threshold=0.5, noise=4)
    assert mixed.outputs(["tas", "pr"]) == {"heads": {"pr": {"kind": "bernoulli_gamma", "wet_mm": 0.5}}, "noise": 4}
    assert mixed.recipe() == {"loss": {"targets": {"pr": "bernoulli_gamma"}, "wet_threshold": 0.5, "noise": 4}}


def test_a_run_goes_on_only_with_a_loss_that_fits_its_heads():
    spec = {"targets": ["tas", "pr"], **LossConfig(targets={"pr": "bernoulli_gamma"}).outputs(["tas", "pr"])}
    assert loss_misfits(LossConfig(name="mae", targets={"pr": "bernoulli_gamma"}), spec) == []
    (found,) = loss_misfits(LossConfig(targets={"pr": "bernoulli_gamma"}, wet_threshold=0.1), spec)
    assert "wet from 1 mm/day" in found and "wet from 0.1 mm/day" in found
    assert loss_misfits(LossConfig(), spec) == ["pr: the run gives bernoulli_gamma (wet from 1 mm/day), loss mse needs point"]
    assert loss_misfits(LossConfig(name="afcrps"), {"targets": ["tas"]}) == ["noise: the run has 0 random numbers, the loss needs 16"]


# --- from the pairs ----------------------------------------------------------------------------------------------------------


def test_gamma_is_fitted_to_the_training_days_and_each_day_once():
    """Trap 18: neither validation nor test days enter; a group that comes as perfect and imperfect counts once."""
    store = make_store()
    group = store.groups["RCM_A"]
    config = LossConfig(targets={"pr": "asymmetric_gamma"})
    once = training_loss(config, store, split_portions(store, ["RCM_A/perfect"], "train")).fields.gamma
    twice = training_loss(config, store, split_portions(store, ["RCM_A/perfect", "RCM_A/imperfect"], "train")).fields.gamma
    wanted = fit_gamma([group], 1)
    assert list(once) == ["pr"]
    for found, also, exact in zip(once["pr"], twice["pr"], (wanted.shape, wanted.scale), strict=True):
        np.testing.assert_allclose(found.numpy(), exact.astype(np.float32), equal_nan=True)
        assert torch.equal(found.nan_to_num(), also.nan_to_num())
    group.arrays["target"][np.concatenate([group.splits["validation"], group.splits["test"]])] *= 50
    again = training_loss(config, store, split_portions(store, ["RCM_A/perfect"], "train")).fields.gamma
    assert torch.equal(again["pr"][1].nan_to_num(), once["pr"][1].nan_to_num())
    some = training_loss(config, store, [Portion(group, "perfect", group.splits["train"][:20])]).fields.gamma
    assert not torch.equal(some["pr"][1].nan_to_num(), once["pr"][1].nan_to_num())


def test_days_in_memory_carry_the_weights_of_their_truth():
    store = make_store()
    portions = split_portions(store, ["RCM_A/perfect"], "train")
    loss = training_loss(LossConfig(targets={"pr": "asymmetric_gamma"}), store, portions)
    days = MemoryDays(load_samples(portions))
    truth = days.samples.target
    work_out_weights(loss, days)
    gamma = fit_gamma([store.groups["RCM_A"]], 1)
    np.testing.assert_allclose(days.samples.inputs.weights[:, 0], np.nan_to_num(gamma.weight(truth[:, 1].numpy())), atol=3e-6)
    ((inputs, _),) = days.epoch([torch.tensor([3, 1])], torch.device("cpu"))
    assert torch.equal(inputs.weights, loss.weights(truth[[3, 1]]))
    plain = MemoryDays(load_samples(portions))
    work_out_weights(training_loss(LossConfig(), store, portions), plain)
    assert plain.samples.inputs.weights is None


def test_land_is_where_at_least_half_is_land():
    store = make_store()
    store.static["sftlf"] = np.linspace(0, 100, 80, dtype=np.float32).reshape(8, 10)
    store.static["sftlf"][7, 9] = np.nan
    fields = training_loss(LossConfig(land_only=True), store, []).fields
    assert torch.equal(fields.land, torch.from_numpy(store.static["sftlf"] >= 50.0)) and not fields.land[7, 9]
    del store.static["sftlf"]
    with pytest.raises(InputDataError, match="no land fraction"):
        training_loss(LossConfig(land_only=True), store, [])


def test_fine_cells_lie_in_the_nearest_coarse_cell():
    store = make_store()
    fields = training_loss(LossConfig(coarse=0.1), store, []).fields
    assert fields.cells == 20 and fields.cell.shape == (80,)
    lats, lons = (np.linspace(40, 44, 5), np.linspace(0, 5, 6)), (np.linspace(40.5, 43.5, 9), np.linspace(0.5, 4.5, 11))
    coarse, fine = ([(axis[1:] + axis[:-1]) / 2 for axis in axes] for axes in ((lats[0], lats[1]), (lons[0], lons[1])))
    y = [int(np.abs(coarse[0] - value).argmin()) for value in fine[0]]
    x = [int(np.abs(coarse[1] - value).argmin()) for value in fine[1]]
    assert fields.cell.view(8, 10).tolist() == [[row * 5 + column for column in x] for row in y]


LOSSES = {
    "asymmetric": {"targets": {"pr": "asymmetric_gamma"}, "land_only": True},
    "likelihood": {"name": "gaussian", "targets": {"pr": "bernoulli_gamma"}, "coarse": 0.1},
    "afcrps": {"name": "afcrps", "noise": 4},
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_training_with_any_loss_makes_a_run_that_can_be_applied(tmp_path, monkeypatch, name):
    store = make_store()
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: store))
    train = {"on": ["RCM_A/perfect"], "epochs": 2, "batch_size": 16, "learning_rate": 2e-3, "baselines": []}
    cfg = config_with(tmp_path, static=["orog", "sftlf"], loss=LOSSES[name], train=train)
    summary = modes.train_run(cfg, device="cpu")
    run = load_run(summary["artefact"], device="cpu")
    assert run.card["recipe"]["loss"] == cfg.loss.recipe()["loss"]
    assert {key: run.spec[key] for key in ("heads", "noise") if key in run.spec} == cfg.loss.outputs(run.targets)
    group = store.groups["RCM_A"]
    inputs = Inputs(*(torch.from_numpy(group.arrays[key][:4]) for key in ("perfect", "scalars", "surface")))
    with torch.inference_mode():
        fields, draws = run.emulator(inputs), run.emulator.sample(inputs, 2)
    assert torch.isnan(fields[..., :2]).all() and torch.isfinite(fields[..., 2:]).all() and torch.isfinite(draws[..., 2:]).all()
    assert math.isfinite(run.card["best"]["validation_loss"])
    other = config_with(tmp_path, static=["orog", "sftlf"], train=train)
    if name != "asymmetric":
        with pytest.raises(InputDataError, match="trained for other pairs") as error:
            modes.train_run(other, mode="finetune", source_run=run.path.name, device="cpu")
        assert any("loss" in finding for finding in error.value.findings)


class Flag:
    """A StopFlag that rises after some looks."""

    name = "SIGTERM"

    def __init__(self, looks):
        self.looks = looks

    @property
    def set(self):
        self.looks -= 1
        return self.looks < 0


def test_a_training_with_noise_goes_on_with_the_very_numbers():
    """Members are drawn from the generator whose state is saved: stopped at a step and resumed, the weights have the same bits."""
    store = make_store()
    portions = {split: split_portions(store, ["RCM_A/perfect"], split) for split in ("train", "validation")}
    loss = training_loss(LossConfig(name="afcrps", targets={"pr": "bernoulli_gamma"}, noise=4), store, portions["train"])
    heads = {"pr": RAIN}
    spec = spec_of(coarse=(4, 5), fine=(8, 10), channels=2, heads=heads, noise=4)
    days = [MemoryDays(load_samples(portions[split])) for split in ("train", "validation")]

    def start():
        torch.manual_seed(0)
        return State(build(spec), Settings(epochs=2, batch_size=32), loss)

    def go(state, looks, save=lambda state, now: None):
        fit(state, *days, stop=Flag(looks), save=save, epoch_end=lambda epoch, row: None)
        return {name: value.clone() for name, value in state.emulator.state_dict().items()}

    whole, saved = go(start(), 10**9), []
    with pytest.raises(Stopped):
        go(start(), 7, lambda state, now: saved.append(state.checkpoint()))
    state = start()
    state.restore(saved[-1])
    rest = go(state, 10**9)
    assert all(torch.equal(value, rest[name]) for name, value in whole.items())
    assert not torch.equal(whole["net.head.weight"], start().emulator.net.head.weight)
