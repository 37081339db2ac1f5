"""The networks' sizes and options: published numbers, what each option does, any pair of grids."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from model_samples import inputs_of, nearest_way, parameters, spec_of  # noqa: E402

from downscale.models import build  # noqa: E402
from downscale.models.attention import SelfAttention  # noqa: E402
from downscale.models.deepesd import DeepESD  # noqa: E402
from downscale.models.registry import channel_positions, input_channels  # noqa: E402
from downscale.models.resunet import Plan, ResUNet, preset  # noqa: E402
from downscale.models.unet_doury import DouryUNet  # noqa: E402

MLBENCH = {"channels": 15, "targets": 1, "coarse": (16, 16), "fine": (128, 128)}
SMALL = {"channels": 2, "aux_size": 2, "targets": 2, "coarse": (4, 4), "fine": (8, 8)}


def built(model, **more):
    spec = spec_of(model["name"], **more)
    emulator = build({**spec, "model": {**spec["model"], **model}})
    fine = tuple(spec["fine_shape"])
    emulator.locate(*nearest_way(tuple(spec["coarse_shape"]), fine), torch.zeros(len(spec["fixed"]), *fine))
    return emulator


# --- sizes -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("filters", "count"), [(1, 4_228_989), (10, 41_979_759)])
def test_deepesd_has_the_published_number_of_parameters(filters, count):
    assert parameters(DeepESD(**MLBENCH, aux_size=0, filters=filters)) == count


@pytest.mark.parametrize(("size", "attention", "count"), [("small", False, 3_270_273), ("small", True, 3_456_321),
                                                          ("base", False, 12_584_705), ("base", True, 13_325_441)])  # fmt: skip
def test_resunet_sizes_are_those_of_the_documentation(size, attention, count):
    net = ResUNet(**MLBENCH, aux_size=32, fixed=4, plan=preset(size, attention=attention))
    assert parameters(net) == count


def test_resunet_by_width_has_the_tensors_it_always_had():
    """Runs of earlier versions load: names and shapes of all tensors are fixed by this digest."""
    tensors = build(spec_of("resunet", backbone="ridge")).state_dict()
    listing = "\n".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
    assert hashlib.sha256(listing.encode()).hexdigest()[:16] == "8fea5aed10aab6a7"


def test_heads_and_noise_and_days_widen_the_networks():
    wide = {"heads": {"pr": {"kind": "bernoulli_gamma", "wet_mm": 1.0}}, "noise": 3, "days": [-1, 0, 1]}
    for name in ("unet_doury", "deepesd", "resunet"):
        emulator = build(spec_of(name, **wide, masked=["c1"]))
        maps, aux = torch.zeros(2, 12, 8, 8), torch.zeros(2, 5)  # 3 channels of 3 days and 3 flags; season and noise
        assert emulator.net(maps, aux).shape == (2, 4, 32, 32)


def test_channels_of_several_days_follow_each_other():
    spec = {"channels": ["a", "b"], "days": [-1, 0], "masked": ["b"]}
    assert input_channels(spec) == 4
    assert channel_positions(spec, "masked") == [1, 3]
    assert channel_positions({**spec, "days": [0]}, "masked") == [1]


# --- any grids ---------------------------------------------------------------------------------------------------------------

MODELS = [
    {"name": "unet_doury"},
    {"name": "unet_doury", "padding": "replicate", "activation_1d": "relu"},
    {"name": "deepesd", "filters": 2},
    {"name": "resunet"},
    {"name": "resunet", "size": "small", "attention": True},
]
side = st.integers(2, 11)
fine_side = st.integers(1, 34)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(model=st.sampled_from(MODELS), coarse=st.tuples(side, side), fine=st.tuples(fine_side, fine_side), backbone=st.booleans())
def test_every_network_takes_any_coarse_box_to_any_fine_grid_and_learns(model, coarse, fine, backbone):
    emulator = built({**model, "width": 4, "backbone": "ridge" if backbone else "none"}, coarse=coarse, fine=fine)
    fields = emulator.train()(inputs_of(emulator.spec, n=2))
    assert fields.shape == (2, 2, *fine)
    assert torch.isfinite(fields).all()
    emulator.transformed(inputs_of(emulator.spec, n=2)).add(1).square().mean().backward()
    moved = [value.grad for value in emulator.parameters() if value.grad is not None]
    assert any(grad.any() for grad in moved)
    assert all(torch.isfinite(grad).all() for grad in moved)


# --- deepesd -----------------------------------------------------------------------------------------------------------------


def test_deepesd_without_numbers_reads_maps_alone():
    silent, reading = (DeepESD(**{**SMALL, "aux_size": size}) for size in (0, 2))
    maps, aux = torch.randn(3, 2, 4, 4), torch.randn(3, 2)
    assert torch.equal(silent(maps, aux), silent(maps, aux + 1))
    assert not torch.equal(reading(maps, aux), reading(maps, aux + 1))


def test_deepesd_on_some_cells_is_deepesd_on_all_with_the_others_left_out():
    cells = torch.tensor([3, 17, 40, 63])
    whole, some = DeepESD(**SMALL), DeepESD(**SMALL, cells=4)
    some.choose(cells)
    some.maps.load_state_dict(whole.maps.state_dict())
    rows = torch.cat([cells, 64 + cells])
    with torch.no_grad():
        some.dense.weight.copy_(whole.dense.weight[rows])
        some.dense.bias.copy_(whole.dense.bias[rows])
    maps, aux = torch.randn(3, 2, 4, 4), torch.randn(3, 2)
    wanted, got = whole(maps, aux).flatten(2), some(maps, aux).flatten(2)
    assert torch.allclose(got[..., cells], wanted[..., cells], atol=1e-6)
    others = torch.ones(64, dtype=torch.bool).index_fill(0, cells, False)
    assert not got[..., others].any()


def test_deepesd_gradients_in_float64():
    net = DeepESD(**{**SMALL, "coarse": (2, 3), "fine": (2, 2)}, cells=3).double()
    net.choose(torch.tensor([0, 2, 3]))
    maps, aux = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, (maps, aux))


# --- unet_doury --------------------------------------------------------------------------------------------------------------


def test_the_dense_branch_of_unet_doury_is_linear_as_published_or_bent_by_option():
    for activation, bent in ((False, False), (True, True)):
        torch.manual_seed(0)
        dense = DouryUNet(**SMALL, width=4, activation=activation).dense
        a, b = torch.randn(2, 2), torch.randn(2, 2)
        apart = (dense(a + b) - dense(a) - dense(b) + dense(torch.zeros(1, 2))).abs().max()
        assert (apart > 1e-4) == bent


def test_unet_doury_with_padding_is_the_network_of_the_padded_box():
    sizes = {**SMALL, "fine": (12, 10)}
    small = DouryUNet(**{**sizes, "coarse": (3, 5)}, width=4, pad=True).eval()
    whole = DouryUNet(**{**sizes, "coarse": (8, 8)}, width=4).eval()
    whole.load_state_dict(small.state_dict())
    maps, aux = torch.randn(2, 2, 3, 5), torch.randn(2, 2)
    y, x = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2]), torch.tensor([0, 0, 1, 2, 3, 4, 4, 4])  # 2 above and 3 below; 1 left and 2 right
    padded = maps[:, :, y][..., x]
    assert torch.equal(small(maps, aux), whole(padded, aux))


def test_padding_changes_nothing_for_a_power_of_two():
    cropping, padding = (DouryUNet(**SMALL, width=4, pad=pad).eval() for pad in (False, True))
    padding.load_state_dict(cropping.state_dict())
    maps, aux = torch.randn(2, 2, 4, 4), torch.randn(2, 2)
    assert torch.equal(cropping(maps, aux), padding(maps, aux))


def test_final_relu_is_for_targets_that_cannot_be_negative():
    emulator = built({"name": "unet_doury", "final_relu": True}).eval()
    plain = built({"name": "unet_doury"}).eval()
    plain.load_state_dict(emulator.state_dict())
    inputs = inputs_of(emulator.spec)
    raw, cut = plain.transformed(inputs), emulator.transformed(inputs)
    assert (raw[:, 1] < 0).any()
    assert torch.equal(cut[:, 0], raw[:, 0])
    assert torch.equal(cut[:, 1], raw[:, 1].relu())


def test_unet_doury_trains_on_a_batch_of_one_day():
    """Its bottom has one value a channel then: batch statistics would be meaningless, running ones stand in."""
    emulator = built({"name": "unet_doury"}).train()
    before = emulator.net.bottom[1].running_mean.clone()
    emulator.transformed(inputs_of(emulator.spec, n=1)).square().mean().backward()
    assert torch.equal(emulator.net.bottom[1].running_mean, before)
    assert not torch.equal(emulator.net.stem[1].running_mean, torch.zeros(4))
    emulator.transformed(inputs_of(emulator.spec, n=2))
    assert not torch.equal(emulator.net.bottom[1].running_mean, before)


# --- resunet -----------------------------------------------------------------------------------------------------------------


def test_attention_starts_as_nothing_and_does_not_know_the_order_of_cells():
    layer, x = SelfAttention(64).eval(), torch.randn(2, 64, 3, 5)
    assert torch.equal(layer(x), x)
    torch.nn.init.normal_(layer.out.weight)
    order = torch.randperm(15)
    mixed = x.flatten(2)[..., order].view_as(x)
    assert torch.allclose(layer(mixed).flatten(2), layer(x).flatten(2)[..., order], atol=1e-4)


def test_attention_of_two_cells_by_hand():
    """One feature with q = k = v = x; the group norm makes the two cells -1 and 1, so the weights are those of a softmax over +-1."""
    layer = SelfAttention(1).double()
    with torch.no_grad():
        for part in (layer.look, layer.out):
            part.weight.fill_(1.0)
            part.bias.zero_()
    x = torch.tensor([3.0, 5.0], dtype=torch.float64).view(1, 1, 1, 2)
    seen = torch.tensor(1.0).double().tanh() * (1 - 1e-5 / 2)
    assert torch.allclose(layer(x).flatten(), torch.tensor([3.0, 5.0]).double() + torch.stack([-seen, seen]), atol=1e-4)


def test_attention_gradients_in_float64():
    layer = SelfAttention(4).double()
    torch.nn.init.normal_(layer.out.weight)
    assert torch.autograd.gradcheck(layer, torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True))


def test_attention_reaches_across_the_whole_box():
    """A cell in one corner matters in the other: on a long box no convolution of a preset reaches that far."""
    torch.manual_seed(0)
    reach = {}
    for attention in (False, True):
        net = ResUNet(channels=1, aux_size=2, targets=1, coarse=(4, 160), fine=(4, 160), plan=preset("small", attention=attention)).eval()
        for module in net.modules():  # group norm would carry it across too
            if isinstance(module, torch.nn.GroupNorm) and not isinstance(module, SelfAttention):
                module.forward = lambda x: x
            if isinstance(module, SelfAttention):
                torch.nn.init.normal_(module.out.weight, std=0.1)
        torch.nn.init.normal_(net.head.weight)
        net.locate(*nearest_way((4, 160), (4, 160)), torch.zeros(0, 4, 160))
        maps = torch.randn(1, 1, 4, 160, requires_grad=True)
        net(maps, torch.zeros(1, 2))[..., -1].sum().backward()
        reach[attention] = bool(maps.grad[..., 0].any())
    assert reach == {False: False, True: True}


def test_a_plan_by_width_doubles_at_each_halving():
    assert Plan.of(32) == Plan((32, 64, 128), (16,))
    assert Plan.of(4).fine == (4,)
