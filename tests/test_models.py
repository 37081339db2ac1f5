"""Networks and baselines: sizes, shapes, scaling, what they may and may not depend on."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from model_samples import SEASON, inputs_of, nearest_way, parameters, spec_of  # noqa: E402

from downscale.errors import EnvironmentMissingError  # noqa: E402
from downscale.models import Inputs, build  # noqa: E402
from downscale.models.linear import HARMONICS, Bilinear, Climatology, Ridge  # noqa: E402
from downscale.models.resunet import Plan, ResUNet  # noqa: E402
from downscale.models.transforms import InputTransform, TargetTransform  # noqa: E402
from downscale.models.unet_doury import DouryUNet  # noqa: E402

NETS = ["unet_doury", "deepesd", "resunet"]


@pytest.mark.parametrize(
    ("channels", "aux", "coarse", "fine", "count"),
    [
        (15, 32, (16, 16), (128, 128), 25_610_305),
        (15, 30, (16, 16), (128, 128), 25_610_177),
        (19, 41, (16, 16), (64, 64), 25_499_969),
        (16, 35, (16, 20), (128, 128), 25_612_577),
    ],
)
def test_unet_doury_has_the_published_number_of_parameters(channels, aux, coarse, fine, count):
    assert parameters(DouryUNet(channels=channels, aux_size=aux, targets=1, coarse=coarse, fine=fine, width=64)) == count


@pytest.mark.parametrize(
    ("coarse", "fine"), [((7, 7), (28, 28)), ((8, 11), (24, 30)), ((8, 8), (32, 32)), ((3, 5), (9, 4)), ((4, 4), (3, 3))]
)
@pytest.mark.parametrize("name", NETS)
def test_networks_take_any_coarse_box_to_any_fine_grid(name, coarse, fine):
    emulator = build(spec_of(name, coarse=coarse, fine=fine, backbone="ridge"))
    emulator.locate(*nearest_way(coarse, fine), torch.zeros(len(emulator.spec["fixed"]), *fine))
    assert emulator(inputs_of(emulator.spec)).shape == (3, 2, *fine)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "unet_doury"},
        {"name": "unet_doury", "activation_1d": "relu", "padding": "replicate"},
        {"name": "deepesd", "numbers": True, "filters": 3},
        {"name": "resunet"},
        {"name": "resunet", "size": "small"},
        {"name": "resunet", "size": "small", "attention": True},
    ],
    ids=lambda model: "-".join(map(str, model.values())),
)
def test_every_parameter_takes_part(model):
    spec = spec_of(model["name"], coarse=(8, 8), fine=(16, 16), normalise="map", scalars=[*SEASON, "GHG"])
    emulator = build({**spec, "model": {**spec["model"], **model}})
    emulator.locate(*nearest_way((8, 8), (16, 16)), torch.ones(2, 16, 16))
    torch.manual_seed(0)
    for parameter in emulator.parameters():  # a zero head would hide everything behind it
        torch.nn.init.normal_(parameter, std=0.1)
    emulator.train()
    emulator.transformed(inputs_of(emulator.spec)).square().mean().backward()
    still = [key for key, value in emulator.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", NETS)
def test_a_network_on_a_backbone_starts_at_the_backbone(name):
    emulator = build(spec_of(name, backbone="ridge")).eval()
    torch.nn.init.normal_(emulator.backbone.weight, std=0.01)
    inputs = inputs_of(emulator.spec)
    assert torch.equal(emulator.transformed(inputs), emulator.backbone(inputs))
    assert not any(key.startswith("backbone") for key, _ in emulator.named_parameters())


def test_resunet_carries_coarse_cells_to_their_place():
    """With a flipped grid the same weights must give the flipped field: the way to the fine grid is data, not array order."""
    coarse, fine = (4, 4), (8, 8)
    net = ResUNet(channels=1, aux_size=2, targets=1, coarse=coarse, fine=fine, plan=Plan.of(8))
    index, weight = nearest_way(coarse, fine)
    net.locate(index, weight, torch.zeros(0, *fine))
    straight = net.place.view(4, 4, 16).clone()
    upside_down = index.view(8, 8, 4).flip(0).reshape(-1, 4)
    net.locate(upside_down, weight, torch.zeros(0, *fine))
    assert torch.equal(net.place.view(4, 4, 16), straight.flip(0))
    assert torch.allclose(net.place.sum(1), torch.ones(16))


def test_map_normalisation_moves_a_constant_to_the_numbers():
    transform = InputTransform("map", 3, SEASON, (6, 7))
    inputs = inputs_of(spec_of(coarse=(6, 7)))
    moved = Inputs(inputs.predictors + torch.tensor([0.0, 5.0, 0.0])[None, :, None, None], inputs.scalars, inputs.surface)
    (shape, aux), (moved_shape, moved_aux) = transform(inputs), transform(moved)
    assert torch.allclose(shape, moved_shape, atol=1e-4)
    assert torch.allclose(moved_aux - aux, torch.tensor([0, 5.0, 0, 0, 0, 0, 0, 0]), atol=1e-3)
    assert shape.mean((2, 3)).abs().max() < 1e-4
    assert (shape.square().mean((2, 3)) - 1).abs().max() < 1e-4


def test_map_normalisation_of_a_flat_map_is_zero():
    maps = torch.full((2, 3, 6, 7), 5512.3)
    shape, aux = InputTransform("map", 3, SEASON, (6, 7))(Inputs(maps, torch.zeros(2, 2), maps))
    assert not shape.any()
    assert torch.isfinite(aux).all()


def test_auxiliary_vector_has_the_published_order():
    transform = InputTransform("map", 1, [*SEASON, "GHG"], (2, 2))
    transform.scalar_mean[2], transform.scalar_std[2] = 300.0, 10.0
    transform.mean.copy_(torch.tensor([4.0, 1.0]))
    transform.std.copy_(torch.tensor([2.0, 0.5]))
    maps = torch.tensor([[[[4.0, 6.0], [4.0, 6.0]]]])  # mean 5, std 1
    _, aux = transform(Inputs(maps, torch.tensor([[0.6, 0.8, 310.0]]), maps))
    assert torch.allclose(aux, torch.tensor([[1.0, 0.5, 0.0, 0.6, 0.8]]))


def test_gridpoint_and_channel_normalisation_by_hand():
    for mode, shape in (("gridpoint", (1, 2, 2)), ("channel", (1, 1, 1))):
        transform = InputTransform(mode, 1, SEASON, (2, 2))
        transform.mean.copy_(torch.full(shape, 2.0))
        transform.std.copy_(torch.full(shape, 4.0))
        maps, aux = transform(Inputs(torch.full((1, 1, 2, 2), 10.0), torch.tensor([[0.6, 0.8]]), torch.zeros(1)))
        assert torch.equal(maps, torch.full((1, 1, 2, 2), 2.0))
        assert torch.equal(aux, torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize("normalise", ["gridpoint", "channel", "map"])
@pytest.mark.parametrize("name", [*NETS, "ridge"])
def test_masked_cells_are_the_mean_and_have_a_flag(name, normalise):
    spec = spec_of(name, backbone="ridge" if name != "ridge" else "none", normalise=normalise, masked=["c1"])
    emulator = build(spec).eval()
    emulator.locate(*nearest_way((8, 8), (32, 32)), torch.zeros(len(spec["fixed"]), 32, 32))
    for value in (*emulator.parameters(), emulator.backbone.weight):
        torch.nn.init.normal_(value, std=0.1)
    inputs = inputs_of(spec)
    inputs.predictors[:, 1, 2:4, 2:5] = math.nan
    fields = emulator(inputs)
    assert torch.isfinite(fields).all()
    inputs.predictors[:, 0, 0, 0] = math.nan  # a channel without a mask
    assert torch.isnan(emulator.transformed(inputs)).any()


def test_masks_follow_the_channels_and_moments_are_of_valid_cells():
    maps = torch.tensor([[[[4.0, 6.0], [4.0, math.nan]], [[1.0, 2.0], [3.0, 4.0]]]])
    inputs = Inputs(maps, torch.tensor([[0.6, 0.8]]), maps)
    transform = InputTransform("map", 2, SEASON, (2, 2), masked=[0])
    scaled, aux = transform(inputs)
    mean, std = (14 / 3), (8 / 9) ** 0.5
    assert transform.maps == 3 and scaled[0, 2].tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert torch.allclose(scaled[0, 0], torch.tensor([[(4 - mean) / std, (6 - mean) / std], [(4 - mean) / std, 0.0]]))
    assert torch.allclose(aux[0], torch.tensor([mean, 2.5, std, 1.25**0.5, 0.6, 0.8]))
    gridpoint = InputTransform("gridpoint", 2, SEASON, (2, 2), masked=[0], flags=False)
    gridpoint.mean[0] = 4.0
    assert gridpoint.maps == 2 and gridpoint(inputs)[0][0, 0].tolist() == [[0.0, 2.0], [0.0, 0.0]]


@pytest.mark.parametrize("normalise", ["gridpoint", "channel", "map"])
@pytest.mark.parametrize("name", NETS)
def test_a_dropped_channel_is_not_read(name, normalise):
    spec = spec_of(name, backbone="ridge", normalise=normalise, dropped=["c2"])
    emulator = build(spec).eval()
    emulator.locate(*nearest_way((8, 8), (32, 32)), torch.zeros(len(spec["fixed"]), 32, 32))
    for value in (*emulator.parameters(), emulator.backbone.weight):
        torch.nn.init.normal_(value, std=0.1)
    inputs = inputs_of(spec)
    first = emulator(inputs)
    inputs.predictors[:, 2] = math.nan
    assert torch.isfinite(first).all() and torch.equal(first, emulator(inputs))


@pytest.mark.parametrize("kind", ["none", "standardise", "log1p", "sqrt"])
def test_target_transforms_go_there_and_back(kind):
    transform = TargetTransform([kind], [True], (2, 2))
    transform.mean.fill_(0.5)
    transform.std.fill_(2.0)
    fields = torch.tensor([[[[0.0, 0.3], [12.0, math.nan]]]])
    assert torch.allclose(transform.inverse(transform(fields)), fields, atol=1e-5, equal_nan=True)


def test_target_transform_values_by_hand():
    transform = TargetTransform(["standardise", "log1p", "sqrt"], [False, True, True], (1, 1))
    transform.mean.copy_(torch.tensor([280.0, 1.0, 1.0]).view(3, 1, 1))
    transform.std.copy_(torch.tensor([5.0, 2.0, 2.0]).view(3, 1, 1))
    fields = torch.tensor([290.0, math.e - 1, 25.0]).view(1, 3, 1, 1)
    assert torch.allclose(transform(fields).flatten(), torch.tensor([2.0, 0.0, 2.0]), atol=1e-6)


def test_only_variables_that_cannot_be_negative_are_clipped():
    transform = TargetTransform(["none", "none"], [False, True], (1, 1))
    assert transform.inverse(torch.full((1, 2, 1, 1), -3.0)).flatten().tolist() == [-3.0, 0.0]


@pytest.mark.parametrize("name", [*NETS, "ridge", "kernel_ridge", "climatology", "bilinear"])
def test_cells_never_valid_in_training_are_nan(name):
    emulator = build(spec_of(name)).eval()
    emulator.locate(*nearest_way((8, 8), (32, 32)), torch.zeros(len(emulator.spec["fixed"]), 32, 32))
    emulator.target.mean[:, 3, 4] = math.nan
    fields = emulator(inputs_of(emulator.spec))
    assert torch.isnan(fields[:, :, 3, 4]).all()
    assert torch.isfinite(fields).sum() == fields.numel() - 3 * 2


def test_bilinear_weights_and_missing_cells():
    bilinear = Bilinear((1, 3), (1, 3))
    bilinear.index.copy_(torch.tensor([[0, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]))
    bilinear.weight.copy_(torch.tensor([[0.25, 0.75, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 0]]))
    surface = torch.tensor([4.0, 8.0, math.nan]).view(1, 1, 1, 3)
    fields = bilinear(Inputs(torch.zeros(1, 1, 1, 3), torch.zeros(1, 2), surface)).flatten()
    assert fields[:2].tolist() == [7.0, 8.0]
    assert torch.isnan(fields[2])


def test_climatology_design_is_harmonics_of_the_season():
    climatology = Climatology(SEASON, 1, (1, 1))
    angle = torch.tensor(2 * math.pi * 0.2, dtype=torch.float64)
    design = climatology.design(Inputs(torch.zeros(1, 1, 1, 1), torch.tensor([[angle.cos(), angle.sin()]]).float(), torch.zeros(1)))
    wanted = [1.0, *(wave(k * angle) for k in range(1, HARMONICS + 1) for wave in (torch.cos, torch.sin))]
    assert torch.allclose(design, torch.tensor([wanted]).float(), atol=1e-6)


def test_ridge_is_linear_in_its_features():
    ridge = Ridge(1, SEASON, (2, 2), 1, (1, 1))
    ridge.weight.copy_(torch.arange(6.0)[:, None])
    ridge.intercept.fill_(0.5)
    maps = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    assert ridge(Inputs(maps, torch.tensor([[1.0, 2.0]]), maps)).item() == pytest.approx(0 + 2 + 6 + 12 + 4 + 10 + 0.5)


def test_inputs_index_and_length():
    inputs = inputs_of(spec_of(), n=5)
    assert len(inputs) == 5
    assert torch.equal(inputs[torch.tensor([4, 1])].predictors, inputs.predictors[[4, 1]])
    assert len(inputs[1:3]) == 2


def test_an_unknown_model_is_refused():
    with pytest.raises(EnvironmentMissingError, match="transformer"):
        build(spec_of("transformer"))
