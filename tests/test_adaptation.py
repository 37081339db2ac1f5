"""Adapting a trained run: which weights move, calibration, AdaBN, replay, and the simulated departures of augmentation."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")

from training_world import FINE, make_config, make_store  # noqa: E402

from downscale.config.training import AugmentConfig  # noqa: E402
from downscale.errors import ConfigError  # noqa: E402
from downscale.models import Inputs, build  # noqa: E402
from downscale.pairs.normalise import compute_statistics  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.adaptation import (  # noqa: E402
    METHODS,
    calibrate,
    has_batch_norm,
    hold_norms,
    methods_of,
    refresh_batch_norm,
    require_method,
    trainable,
)
from downscale.training.augment import Augment, augmenter, neighbourhood_mean, red_noise  # noqa: E402
from downscale.training.replay import source_cases, with_replay  # noqa: E402
from downscale.training.samples import split_portions  # noqa: E402


def emulator_of(name="resunet", **spec):
    torch.manual_seed(0)
    model = {"name": name, "width": 8, "backbone": "none", "static": None, "dropout": 0.0}
    return build(
        {
            "model": model, "channels": ["tas", "zg500"], "targets": ["tas", "pr"], "scalars": ["season_cos", "season_sin"],
            "coarse_shape": [4, 5], "fine_shape": list(FINE), "normalise": "gridpoint",
            "transforms": {"tas": "standardise", "pr": "standardise"}, "non_negative": ["pr"], "fixed": [], **spec,
        }
    )  # fmt: skip


def days(n=30, seed=0, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    maps = shift + scale * torch.randn(n, 2, 4, 5, generator=generator)
    return Inputs(maps, torch.randn(n, 2, generator=generator), torch.full((n, 2, 4, 5), torch.nan))


# --- which weights move -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method", "inside", "outside"),
    [
        ("resunet", "head", {"net.head.weight", "net.head.bias", "net.gain"}, "net.stem.weight"),
        ("resunet", "film_norm", {"net.embed.0.weight", "net.encoder.0.film.weight", "net.encoder.0.norms.0.weight"}, "net.stem.weight"),
        ("resunet", "input_adapter", {"net.stem.weight", "net.encoder.0.norms.0.bias"}, "net.encoder.0.film.weight"),
        ("unet_doury", "head", {"net.head.weight", "net.head.bias"}, "net.dense.0.weight"),
        ("unet_doury", "film_norm", {"net.dense.0.weight", "net.stem.1.weight", "net.bottom.1.bias"}, "net.stem.0.weight"),
        ("unet_doury", "input_adapter", {"net.stem.0.weight", "net.stem.1.bias"}, "net.head.weight"),
    ],
)
def test_a_method_moves_its_part_alone(name, method, inside, outside):
    names = trainable(emulator_of(name), method)
    assert inside <= set(names)
    assert outside not in names
    if method == "head":
        assert set(names) == inside


def test_all_weights_move_by_default():
    assert trainable(emulator_of(), "full") is None
    assert METHODS[0] == "full"


def test_a_network_without_the_part_has_not_the_method():
    """DeepESD has neither normalisation layers nor FiLM."""
    emulator = emulator_of("deepesd")
    assert methods_of(emulator) == ["full", "head", "input_adapter", "calibration"]
    assert {name.rsplit(".", 1)[0] for name in trainable(emulator, "input_adapter")} == {"net.maps.0.0"}
    with pytest.raises(ConfigError, match="film_norm does not exist for deepesd") as caught:
        require_method(emulator, "film_norm", name="R")
    assert "head" in caught.value.hint


@pytest.mark.parametrize("name", ["resunet", "unet_doury"])
def test_the_unets_have_all_methods(name):
    assert methods_of(emulator_of(name)) == list(METHODS)


def test_frozen_batch_norm_neither_learns_nor_uses_the_batch():
    emulator = emulator_of("unet_doury")
    held = emulator_of("unet_doury")
    hold_norms(held, trainable(held, "head"))
    before = {name: value.clone() for name, value in held.named_buffers()}
    inputs = days(shift=5.0)
    held.train()
    in_training = held.transformed(inputs)
    assert all(torch.equal(value, before[name]) for name, value in held.named_buffers())
    assert torch.equal(in_training, held.eval().transformed(inputs))
    hold_norms(emulator, trainable(emulator, "film_norm"))
    emulator.train()
    emulator.transformed(inputs)
    assert not torch.equal(emulator.net.stem[1].running_mean, before["net.stem.1.running_mean"])


# --- calibration and AdaBN --------------------------------------------------------------------------------------------------


def calibrated(truth, inputs, emulator):
    calibrate(emulator, lambda: [(inputs[:11], truth[:11]), (inputs[11:], truth[11:])])
    return emulator(inputs)


def lively():
    """An emulator whose output changes from day to day."""
    emulator = emulator_of("unet_doury")
    torch.nn.init.normal_(emulator.net.head.weight)
    return emulator.eval()


def test_calibration_matches_mean_and_spread_of_each_cell():
    emulator, inputs = lively(), days(40)
    with torch.no_grad():
        truth = 3.0 + 0.5 * emulator(days(40, seed=9)) + torch.arange(10.0)
        truth[:, :, 0, 0] = torch.nan
        truth[5, 0, 1, 1] = torch.nan
        before = emulator(inputs)[:, 0, 0, 0].clone()
        fields = calibrated(truth, inputs, emulator)
    torch.testing.assert_close(fields[:, 0, 2:].mean(0), truth[:, 0, 2:].mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fields[:, 0, 2:].std(0), truth[:, 0, 2:].std(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fields[:, 0, 0, 0], before)
    known = torch.isfinite(truth[:, 0, 1, 1])
    torch.testing.assert_close(fields[known, 0, 1, 1].mean(), truth[known, 0, 1, 1].mean())


def test_calibrated_rain_is_not_negative_and_nearly_has_the_moments():
    emulator, inputs = lively(), days(200)
    with torch.no_grad():
        truth = (2.0 * torch.randn(200, 2, *FINE, generator=torch.Generator().manual_seed(3))).clamp(min=0)
        fields = calibrated(truth, inputs, emulator)
    rain = fields[:, 1]
    assert rain.min() == 0.0
    assert (rain.mean(0) / truth[:, 1].mean(0) - 1).abs().mean() < 0.05
    assert (rain.std(0) / truth[:, 1].std(0) - 1).abs().mean() < 0.05


def test_calibration_of_what_never_changes_only_shifts():
    emulator, inputs = emulator_of().eval(), days(20)  # its head starts at zero
    with torch.no_grad():
        truth = 7.0 + torch.randn(20, 2, *FINE)
        fields = calibrated(truth, inputs, emulator)
    torch.testing.assert_close(fields[:, 0], truth[:, 0].mean(0).expand(20, -1, -1), rtol=1e-4, atol=1e-4)
    assert torch.isfinite(emulator.target.std).all()


def test_adabn_takes_the_statistics_of_the_new_inputs():
    emulator = emulator_of("unet_doury").eval()
    inputs = days(40, shift=3.0, scale=2.0)
    assert has_batch_norm(emulator)
    assert refresh_batch_norm(emulator, [inputs[:20], inputs[20:]])
    with torch.no_grad():
        stem = emulator.net.stem[0](inputs.predictors)
    layer = emulator.net.stem[1]
    torch.testing.assert_close(layer.running_mean, stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    halves = torch.stack([part.var((0, 2, 3)) for part in (stem[:20], stem[20:])]).mean(0)
    torch.testing.assert_close(layer.running_var, halves, rtol=1e-4, atol=1e-5)
    assert layer.momentum == 0.1
    assert not any(module.training for module in emulator.modules())


def test_adabn_needs_batch_norm():
    emulator = emulator_of()
    assert not has_batch_norm(emulator)
    assert not refresh_batch_norm(emulator, [days(4)])


# --- replay -----------------------------------------------------------------------------------------------------------------


class FakeRun:
    """What replay reads of a run."""

    class path:
        name = "start"

    def __init__(self, *trained_on):
        self.card = {"trained_on": list(trained_on)}


def test_replay_makes_up_its_share_and_never_takes_validation_or_test_days():
    store = make_store()
    new = split_portions(store, ["RCM_B/imperfect"], "train")
    new[0] = type(new[0])(new[0].group, new[0].kind, new[0].index[:28])
    both = with_replay(store, FakeRun("RCM_A/perfect"), new, share=0.5, seed=1)
    assert [portion.name for portion in both] == ["RCM_B/imperfect", "RCM_A/perfect"]
    assert len(both[1].index) == 28
    assert len(set(both[1].index.tolist())) == 28
    assert set(both[1].index) <= set(store.group("RCM_A").split("train"))
    again = with_replay(store, FakeRun("RCM_A/perfect"), new, share=0.5, seed=1)
    other = with_replay(store, FakeRun("RCM_A/perfect"), new, share=0.5, seed=2)
    assert np.array_equal(both[1].index, again[1].index)
    assert not np.array_equal(both[1].index, other[1].index)


def test_replay_takes_all_there_is_where_more_is_wanted():
    store = make_store()
    new = split_portions(store, ["RCM_B/imperfect"], "train")
    both = with_replay(store, FakeRun("RCM_A/perfect", "RCM_B/imperfect (finetune)"), new, share=0.9, seed=0)
    assert np.array_equal(both[1].index, store.group("RCM_A").split("train"))


def test_replay_of_several_sources_draws_from_all():
    store = make_store()
    new = split_portions(store, ["RCM_B/imperfect"], "train")
    both = with_replay(store, FakeRun("RCM_A/perfect", "RCM_A/imperfect"), new, share=0.5, seed=0)
    assert [portion.name for portion in both[1:]] == ["RCM_A/perfect", "RCM_A/imperfect"]
    assert sum(len(portion.index) for portion in both[1:]) == len(new[0].index)


def test_replay_of_nothing_else_is_refused():
    store = make_store()
    new = split_portions(store, ["RCM_B/imperfect"], "train")
    with pytest.raises(ConfigError, match="no other pairs"):
        with_replay(store, FakeRun("RCM_B/imperfect"), new, share=0.5, seed=0)


def test_cases_of_a_run_that_was_adapted_before():
    assert source_cases(FakeRun("A/perfect", "B/imperfect (finetune)", "A/perfect (few-shot)")) == ["A/perfect", "B/imperfect"]


# --- augmentation -----------------------------------------------------------------------------------------------------------


def augment(**options):
    return Augment(torch.zeros(2, 4, 5), torch.tensor([1.0, 10.0]), **options)


def test_augmentation_is_off_by_default_and_draws_nothing():
    inputs = days()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(augment()(inputs).predictors, inputs.predictors)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_gives_the_same_departures():
    inputs, one = days(), augment(smoothing=0.5, bias=0.3, noise=0.2, dropout=0.1)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(one(inputs).predictors)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(one(inputs).scalars, inputs.scalars)


def test_bias_is_a_constant_a_map_in_units_of_the_predictors_spread():
    torch.manual_seed(0)
    inputs = days(4000)
    change = augment(bias=0.5)(inputs).predictors - inputs.predictors
    torch.testing.assert_close(change, change[..., :1, :1].expand_as(change), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(change[..., 0, 0].std(0), torch.tensor([0.5, 5.0]), rtol=0.05, atol=0.0)
    assert abs(float(torch.corrcoef(change[..., 0, 0].T)[0, 1])) < 0.06


def test_noise_has_its_size_in_every_cell_and_is_red():
    torch.manual_seed(0)
    for shape in ((4, 5), (7, 8), (1, 6)):
        field = red_noise(torch.zeros(6000, 1, *shape))
        torch.testing.assert_close(field.std(0), torch.ones(1, *shape), rtol=0.06, atol=0.0)
    wide = red_noise(torch.zeros(500, 1, 16, 16))
    power = torch.fft.rfft(wide[:, 0, 0]).abs().square().mean(0)
    assert power[1] > 5 * power[6]


def test_smoothing_mixes_with_the_neighbours_and_keeps_missing_cells():
    maps = torch.zeros(1, 1, 3, 3)
    maps[0, 0, 1, 1] = 9.0
    maps[0, 0, 0, 0] = torch.nan
    smooth = neighbourhood_mean(maps)
    torch.testing.assert_close(smooth[0, 0, 1, 1], torch.tensor(9.0 / 8))
    torch.testing.assert_close(smooth[0, 0, 2, 2], torch.tensor(9.0 / 4))
    assert torch.isnan(smooth[0, 0, 0, 0])
    inputs = days(50)
    inputs.predictors[:, 0, 0, 0] = torch.nan
    result = augment(smoothing=1.0)(inputs).predictors
    assert torch.equal(torch.isnan(result), torch.isnan(inputs.predictors))
    between = (result - inputs.predictors) / (neighbourhood_mean(inputs.predictors) - inputs.predictors)
    share = between[:, 1].flatten(1).median(1).values
    assert 0.0 <= share.min() < 0.1
    assert 0.9 < share.max() <= 1.0


def test_dropout_puts_the_mean_in_place_of_whole_maps():
    torch.manual_seed(0)
    inputs = days(2000)
    one = Augment(torch.full((2, 4, 5), 7.0), torch.ones(2), dropout=0.25)
    gone = (one(inputs).predictors == 7.0).flatten(2)
    assert torch.equal(gone.all(2), gone.any(2))
    torch.testing.assert_close(gone.all(2).double().mean(0), torch.full((2,), 0.25).double(), rtol=0.15, atol=0.0)


def test_several_input_days_share_their_draws_but_not_their_noise():
    maps = torch.zeros(20, 4, 4, 5)
    inputs = Inputs(maps, torch.zeros(20, 2), maps)
    biased = augment(bias=1.0)(inputs).predictors
    assert torch.equal(biased[:, :2], biased[:, 2:])
    noisy = augment(noise=1.0)(inputs).predictors
    assert not torch.equal(noisy[:, :2], noisy[:, 2:])


# --- config -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["epochs", "learning_rate", "l2_sp", "replay"])
def test_calibration_refuses_what_it_does_not_use(tmp_path, key):
    with pytest.raises(ValidationError, match=rf"closed form.*leave out .*{key}"):
        make_config(tmp_path, finetune={"method": "calibration", key: 0.5 if key != "epochs" else 5})


# --- through train ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with a pretrained network that has batch normalisation."""
    workspace = tmp_path_factory.mktemp("adaptation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: make_store()))
        modes.train_run(config(workspace), device="cpu", name="start")
    return workspace


@pytest.fixture
def workspace(trained, monkeypatch):
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: make_store()))
    return trained


def config(workspace, train=None, **finetune):
    net = {"name": "unet_doury", "width": 4, "backbone": "none", "dropout": 0.0}
    given = {"on": ["RCM_B/imperfect"], **({} if finetune.get("method") == "calibration" else {"epochs": 2}), **finetune}
    made = make_config(workspace, model=net, train={"epochs": 2, "baselines": [], "learning_rate": 1e-2, **(train or {})})
    return made.model_copy(update={"finetune": type(made.finetune).model_validate(given)})


def tensors(workspace, name):
    return modes.load_run(workspace / "runs" / name, device="cpu").emulator.state_dict()


@pytest.mark.parametrize("method", METHODS)
def test_finetuning_by_a_method_changes_its_part_alone(workspace, method):
    rate = {} if method == "calibration" else {"learning_rate": 1e-2}
    result = modes.train_run(config(workspace, method=method, **rate), mode="finetune", source_run="start", device="cpu")
    path = result["artefact"]
    assert path.name == "start-finetune-RCM_B-imperfect" + ("" if method == "full" else f"-{method}")
    before, after = tensors(workspace, "start"), tensors(workspace, path.name)
    changed = {name for name, value in after.items() if not torch.equal(value.nan_to_num(), before[name].nan_to_num())}
    emulator = modes.load_run(path, device="cpu").emulator
    names = set(trainable(emulator, method) or [name for name, _ in emulator.named_parameters()])
    if method == "calibration":
        assert changed == {"target.mean", "target.std"}
        assert result["epochs"] == 0
    else:
        running = {name for name in after if "running_" in name or "num_batches" in name}
        assert changed & {name for name, _ in emulator.named_parameters()}
        assert changed <= names | running
        assert bool(changed & running) == (method != "head")
    card = modes.load_run(path, device="cpu").card
    assert card["recipe"].get("method", "full") == method
    again = modes.train_run(config(workspace, method=method, **rate), mode="finetune", source_run="start", device="cpu")
    assert "unchanged" in again


def test_a_calibrated_run_has_the_moments_of_its_training_days(workspace):
    """Loaded again, on the days that it was calibrated on; the file's own digest fits."""
    modes.train_run(config(workspace, method="calibration"), mode="finetune", source_run="start", device="cpu")
    run = modes.load_run(workspace / "runs" / "start-finetune-RCM_B-imperfect-calibration", device="cpu")
    arrays, index = make_store().group("RCM_B").arrays, make_store().group("RCM_B").split("train")
    maps, numbers = (torch.from_numpy(arrays[name][index]) for name in ("imperfect", "scalars"))
    with torch.no_grad():
        fields = run.emulator(Inputs(maps, numbers, torch.full((len(index), 2, 4, 5), torch.nan)))
    truth = torch.from_numpy(arrays["target"][index])
    torch.testing.assert_close(fields[:, 0, :, 2:].std(0), truth[:, 0, :, 2:].std(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fields[:, 0, :, 2:].mean(0), truth[:, 0, :, 2:].mean(0), rtol=1e-5, atol=1e-2)


def test_replayed_days_are_learned_from(workspace):
    result = modes.train_run(config(workspace, replay=0.5), mode="finetune", source_run="start", device="cpu")
    assert result["training days"] == 2 * 168
    run = modes.load_run(result["artefact"], device="cpu")
    assert run.card["recipe"]["replay"] == 0.5
    assert run.card["recipe"]["replayed"] == {"RCM_A/perfect": "1"}
    assert run.card["trained_on"] == ["RCM_A/perfect", "RCM_B/imperfect (finetune)"]


def test_augmentation_changes_pretraining_and_its_recipe_alone(workspace):
    run = modes.load_run(
        modes.train_run(config(workspace, {"augment": {"noise": 0.5}}), device="cpu", name="noisy")["artefact"], device="cpu"
    )
    assert run.card["recipe"]["augment"] == {"smoothing": 0.0, "bias": 0.0, "noise": 0.5, "dropout": 0.0}
    plain = modes.load_run(workspace / "runs" / "start", device="cpu")
    assert "augment" not in plain.card["recipe"]
    assert run.card["statistics_digest"] == plain.card["statistics_digest"]
    assert not torch.equal(run.emulator.state_dict()["net.head.weight"], plain.emulator.state_dict()["net.head.weight"])


def test_the_augmenter_takes_the_spread_in_time_of_each_predictor():
    store = make_store()
    statistics = compute_statistics([(store.group("RCM_A"), "perfect")], {}, store.targets, store.scalars)
    assert augmenter(AugmentConfig(), statistics, torch.device("cpu")) is None
    one = augmenter(AugmentConfig(bias=1.0), statistics, torch.device("cpu"))
    torch.testing.assert_close(one.std, torch.tensor([3.0, 5.0]), rtol=0.05, atol=0.0)
    assert one.mean.shape == (2, 4, 5)


def test_a_method_that_the_network_lacks_ends_before_anything_is_written(workspace, tmp_path):
    net = {"name": "deepesd", "backbone": "none"}
    made = make_config(tmp_path, finetune={"method": "film_norm"}, train={"epochs": 1, "baselines": []})
    made = made.model_copy(update={"model": type(made.model).model_validate(net)})
    modes.train_run(made, device="cpu", name="esd")
    with pytest.raises(ConfigError, match="film_norm does not exist for deepesd"):
        modes.train_run(made, mode="finetune", source_run="esd", device="cpu")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["esd"]
