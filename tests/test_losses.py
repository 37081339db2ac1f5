"""Losses by hand-computed values, their gradients, and the traps: whose gamma, which days, which cells, which mean."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model_samples import inputs_of, spec_of  # noqa: E402

from downscale.models import build  # noqa: E402
from downscale.models.heads import CHANNELS, Head, Heads  # noqa: E402
from downscale.pairs.gamma import Gamma, fit_gamma, from_sums  # noqa: E402
from downscale.training import loss_terms  # noqa: E402
from downscale.training.losses import LOSSES, LossFields, combine, make_loss  # noqa: E402

RAIN = Head("bernoulli_gamma", 0, 1.0)
OPTIONS = {"huber_delta": 1.0, "asymmetry": 1.0, "asymmetry_power": 2.0, "members": 3, "coarse": 0.0}
KINDS = {"gaussian": {"kind": "gaussian"}, "bernoulli_gamma": {"kind": "bernoulli_gamma", "wet_mm": 1.0}}
NAMES = ["mse", "mae", "huber", "asymmetric_gamma", "gaussian", "bernoulli_gamma", "afcrps"]


def t(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def raw_spread(variance):
    """The channel whose softplus and the least variance give this variance."""
    return math.log(math.expm1(variance - 1e-4))


# --- single cells, by hand -------------------------------------------------------------------------------------------------


def test_huber_is_square_inside_and_straight_outside():
    found = loss_terms.huber(t(0.0, 0.5, -0.5, 2.0, -4.0), 1.0)
    assert found.tolist() == [0.0, 0.125, 0.125, 1.5, 3.5]
    assert loss_terms.huber(t(2.0 - 1e-9, 2.0 + 1e-9), 2.0).tolist() == pytest.approx([2.0, 2.0])


def test_asymmetric_costs_more_where_rain_is_underestimated():
    """SCIENCE 5c.4: y = yh -> 0; y > yh costs (1 + lambda W) |e|; y < yh costs |e|."""
    error, weight = t(0.0, -2.0, 2.0, -2.0), t(0.5, 0.25, 0.25, 0.0)
    assert loss_terms.asymmetric(error, weight, 3.0).tolist() == [0.0, 2.0 * 1.75, 2.0, 2.0]


def test_the_gamma_weight_by_hand():
    """Shape 1 is the exponential distribution: G(x) = 1 - exp(-x / scale); up to 1 mm, and without a distribution, the weight is 0."""
    amount = t(0.0, 0.9, 1.0, 3.0, 5.0, 5.0).view(1, 1, 6)
    shape, scale = t(1.0, 1.0, 1.0, 1.0, 1.0, math.nan).view(1, 6), t(2.0, 2.0, 2.0, 2.0, 4.0, math.nan).view(1, 6)
    once = 1 - math.exp(-1.0)
    assert loss_terms.gamma_weight(amount, shape, scale, 2.0).flatten().tolist() == pytest.approx([0, 0, 0, once**2, once**2, 0])
    assert loss_terms.gamma_weight(amount, shape, scale, 1.0).flatten().tolist() == pytest.approx([0, 0, 0, once, once, 0])


def test_the_gamma_weight_is_that_of_the_pairs():
    """In float32, as a training step computes it, against SciPy in float64 on a day of rain."""
    random = np.random.default_rng(0)
    rain = random.gamma(0.6, 8.0, (400, 5, 4))
    wet = np.where(rain > 1, rain - 1, 0)
    gamma = from_sums((wet > 0).sum(0), wet.sum(0), np.log(np.where(wet > 0, wet, 1)).sum(0))
    found = loss_terms.gamma_weight(*(torch.from_numpy(x).float() for x in (rain, gamma.shape, gamma.scale)), 2.0)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), gamma.weight(rain), atol=3e-6)


def test_gaussian_likelihood_by_hand():
    variance = 4.0
    channels = torch.stack([t(1.0), t(raw_spread(variance))])[..., None]
    assert loss_terms.gaussian_nll(channels, t(4.0)[:, None]).item() == pytest.approx(0.5 * (math.log(4.0) + 9.0 / 4.0))
    normal = torch.distributions.Normal(t(1.0), t(2.0))
    assert loss_terms.gaussian_nll(channels, t(4.0)[:, None]).item() == pytest.approx(
        -normal.log_prob(t(4.0)).item() - 0.5 * math.log(2 * math.pi)
    )


def test_a_gaussian_never_becomes_certain():
    channels = torch.tensor([0.0, -1e4], dtype=torch.float64)[:, None, None]
    assert loss_terms.gaussian_nll(channels, t(0.01)[None]).item() == pytest.approx(0.5 * (math.log(1e-4) + 1.0))


def test_bernoulli_gamma_likelihood_by_hand():
    """p = 1/2, shape 1, scale 1: log 2 on a dry day, log 2 + y' on a wet one, y' = y - 1 mm + 1e-6."""
    channels = torch.zeros(3, 1, 4, dtype=torch.float64)
    found = loss_terms.bernoulli_gamma_nll(channels, t(0.0, 0.999, 1.0, 3.0)[None], RAIN)[0].tolist()
    assert found == pytest.approx([math.log(2), math.log(2), math.log(2) + 1e-6, math.log(2) + 2.000001], abs=1e-12)


def test_bernoulli_gamma_likelihood_is_that_of_the_distributions():
    logit, log_shape, log_scale = 0.7, -0.4, 1.3
    channels = t(logit, log_shape, log_scale)[:, None, None].expand(3, 1, 3)
    gamma = torch.distributions.Gamma(t(math.exp(log_shape)), t(math.exp(-log_scale)))
    p = 1 / (1 + math.exp(-logit))
    truth = t(0.0, 2.5, 40.0)
    wanted = [-math.log(1 - p), *(-math.log(p) - gamma.log_prob(y - 1 + 1e-6).item() for y in truth[1:])]
    assert loss_terms.bernoulli_gamma_nll(channels, truth[None], RAIN)[0].tolist() == pytest.approx(wanted)


def test_bernoulli_gamma_parameters_are_kept_within_bounds():
    """p in 1e-6 .. 1 - 1e-6 and shape, scale in e^-6 .. e^6: whatever the network says, the loss is finite."""
    wild = torch.tensor([[900.0, -900.0, 900.0, -900.0]] * 3)[:, None]
    found = loss_terms.bernoulli_gamma_nll(wild, torch.tensor([[0.0, 0.0, 300.0, 300.0]]), RAIN)[0]
    assert torch.isfinite(found).all()
    assert found[0].item() == pytest.approx(-math.log(1e-6), rel=1e-4)
    assert found[1].item() == pytest.approx(1e-6, rel=0.1)


def test_fair_crps_by_hand():
    assert loss_terms.fair_crps(t(1.0, 3.0)[:, None], t(2.0)).item() == 0.0
    # |x - y| = 2, 1, 4: mean 7/3; differences 1, 2, 3: their mean over pairs is 2, of which half is taken off
    assert loss_terms.fair_crps(t(0.0, 1.0, -2.0)[:, None], t(2.0)).item() == pytest.approx(7 / 3 - 1.0)
    assert loss_terms.fair_crps(t(1.5, 1.5)[:, None], t(2.0)).item() == 0.5


@pytest.mark.parametrize("members", [2, 5])
def test_fair_crps_expects_the_same_of_few_and_many_members(members):
    """For normal members: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi)."""
    draws = torch.randn(members, 200_000, generator=torch.Generator().manual_seed(0))
    y = 0.5
    wanted = y * math.erf(y / math.sqrt(2)) + 2 * math.exp(-y * y / 2) / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    assert loss_terms.fair_crps(draws, torch.full((200_000,), y)).mean().item() == pytest.approx(wanted, abs=0.004)


def test_coarse_squares_by_hand():
    """Two coarse cells of two fine cells each, one fine cell outside: errors 1 and 3 average to 2, errors 1 and -1 to 0."""
    error, cell = t(1.0, 3.0, 1.0, -1.0, 9.0).view(1, 1, 1, 5), torch.tensor([0, 0, 1, 1, 2])
    valid, size = torch.ones(1, 1, 1, 5, dtype=torch.bool), torch.ones(1, 1, 5, dtype=torch.float64)
    assert loss_terms.coarse_squares(error, valid, size, cell, 2).tolist() == [2 * 4.0]
    # a cell without truth does not count: the average is that of the other one, with the weight of one cell
    valid[..., 1] = False
    assert loss_terms.coarse_squares(error * valid, valid, size, cell, 2).tolist() == [1.0]
    # standard deviations 3 and 1: the average error in working units (3 - 3) / 4 is 0
    size[..., 0] = 3.0
    opposed = t(1.0, -3.0, 0.0, 0.0, 9.0).view(1, 1, 1, 5)
    assert loss_terms.coarse_squares(opposed, torch.ones_like(valid), size, cell, 2).tolist() == [0.0]


# --- gradients -------------------------------------------------------------------------------------------------------------

TRUTH = t(0.0, 1.3, 2.0, 7.5).view(2, 1, 2)
TERMS = {
    "mse": (1, lambda x: loss_terms.squared(x[:, 0] - TRUTH)),
    "mae": (1, lambda x: loss_terms.absolute(x[:, 0] - TRUTH)),
    "huber": (1, lambda x: loss_terms.huber(x[:, 0] - TRUTH, 0.7)),
    "asymmetric": (1, lambda x: loss_terms.asymmetric(x[:, 0] - TRUTH, t(0.1, 0.2, 0.3, 0.4).view(2, 1, 2), 1.5)),
    "gaussian": (2, lambda x: loss_terms.gaussian_nll(x, TRUTH)),
    "bernoulli_gamma": (3, lambda x: loss_terms.bernoulli_gamma_nll(x, TRUTH, RAIN)),
    "afcrps": (3, lambda x: loss_terms.fair_crps(x.transpose(0, 1), TRUTH)),
}


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_those_of_the_function(name):
    channels, term = TERMS[name]
    x = torch.randn(2, channels, 1, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 1.5 + 0.2
    assert torch.autograd.gradcheck(term, x.requires_grad_())


def test_the_gradient_of_the_coarse_term():
    cell, size = torch.tensor([0, 0, 1, 2]), t(1.0, 2.0, 1.0, 1.0).view(1, 2, 2)
    valid = torch.tensor([True, True, True, False]).view(1, 1, 2, 2)
    error = torch.randn(1, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: loss_terms.coarse_squares(torch.where(valid, e, 0.0), valid, size, cell, 2), error)


# --- of a batch ------------------------------------------------------------------------------------------------------------


def emulator_for(name, **more):
    """A trainable network with heads and noise as the loss of both targets needs them, weights not zero."""
    outputs = {"heads": dict.fromkeys(["tas", "pr"], KINDS[name])} if name in KINDS else {}
    spec = spec_of(coarse=(4, 5), fine=(8, 10), **outputs, **({"noise": 4} if name == "afcrps" else {}), **more)
    torch.manual_seed(0)
    emulator = build(spec)
    for value in emulator.parameters():
        value.data += 0.05 * torch.randn(value.shape)
    return emulator.eval()


def fields_for(shape=(8, 10)):
    """Land in the upper half, gamma parameters that differ from cell to cell, four coarse cells and a column outside."""
    random = torch.Generator().manual_seed(1)
    gamma = (torch.rand(shape, generator=random) + 0.5, torch.rand(shape, generator=random) * 5 + 1)
    y, x = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    cell = torch.where(x == 0, 4, (y >= shape[0] // 2) * 2 + (x >= shape[1] // 2))
    return LossFields(land=y < shape[0] // 2, gamma={"tas": gamma, "pr": gamma}, cell=cell.flatten(), cells=4)


def loss_for(name, *, land=False, coarse=0.0, balance="none"):
    fields = fields_for()
    options = OPTIONS | {"coarse": coarse}
    return make_loss(
        name,
        balance,
        targets=["tas", "pr"],
        options=options,
        fields=fields if land else LossFields(None, fields.gamma, fields.cell, fields.cells),
    )


def days_for(emulator, n=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    truth = torch.rand(n, 2, 8, 10, generator=random) * 6
    truth[torch.rand(truth.shape, generator=random) < 0.2] = math.nan
    return inputs_of(emulator.spec, n, seed), truth


@pytest.mark.parametrize("coarse", [0.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_totals_of_batches_add_up(name, coarse):
    """Whatever the sizes of the batches and however many cells they lack (trap 7)."""
    emulator, loss = emulator_for(name), loss_for(name, coarse=coarse)
    inputs, truth = days_for(emulator)
    truth[0, :, :, 3:] = math.nan
    with torch.no_grad():
        whole = loss.totals(emulator, inputs, truth)
        parts = [loss.totals(emulator, inputs[span], truth[span]) for span in (slice(0, 1), slice(1, 5))]
    for i in range(2):
        torch.testing.assert_close(whole[i], parts[0][i] + parts[1][i], rtol=1e-4, atol=1e-3)
    assert whole[1].tolist() == torch.isfinite(truth).sum((0, 2, 3)).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_cells_without_truth_and_sea_do_not_pull(name):
    emulator, loss = emulator_for(name), loss_for(name, land=True, coarse=0.3)
    inputs, truth = days_for(emulator)
    truth[:, :, 0] = math.nan
    raws = emulator.members(inputs).detach().requires_grad_()
    emulator.members = lambda *_: raws
    total, count = loss.totals(emulator, inputs, truth)
    total.sum().backward()
    counts = torch.isfinite(truth) & fields_for().land
    assert count.tolist() == counts.sum((0, 2, 3)).tolist()
    pulled = (raws.grad != 0).any(0)
    assert torch.isfinite(raws.grad).all()
    for i, head in enumerate(emulator.heads.each):
        assert not pulled[:, head.start : head.start + CHANNELS[head.kind]].any(1)[~counts[:, i]].any()
        assert pulled[:, head.start][counts[:, i]].all()


@pytest.mark.parametrize("name", NAMES)
def test_validation_sees_the_same_loss_and_draws_nothing(name):
    emulator, loss = emulator_for(name), loss_for(name, coarse=0.1)
    inputs, truth = days_for(emulator)
    before = torch.get_rng_state()
    with torch.inference_mode():
        total, count, estimate = loss.judge(emulator, inputs, truth)
        again = loss.totals(emulator, inputs, truth)
        assert torch.equal(total, again[0]) and torch.equal(count, again[1])
        assert torch.equal(estimate, emulator(inputs))
    assert torch.equal(torch.get_rng_state(), before)


def test_other_cells_gamma_never_enters():
    """Trap 1: with as many days as rows as columns, broadcasting along the wrong axis would go unnoticed."""
    emulator = build(spec_of(coarse=(4, 4), fine=(6, 6)))
    inputs, truth = inputs_of(emulator.spec, 6), torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0)) * 9
    shape, scale = (torch.rand(6, 6, generator=torch.Generator().manual_seed(i)) + 0.5 for i in (1, 2))

    def cells(shape, scale):
        fields = LossFields(gamma=dict.fromkeys(["tas", "pr"], (shape, scale)))
        loss = make_loss("asymmetric_gamma", "none", targets=["tas", "pr"], options=OPTIONS, fields=fields)
        raws = emulator.members(inputs).detach().requires_grad_()
        emulator.members = lambda *_: raws
        loss.totals(emulator, inputs, truth)[0].sum().backward()
        return raws.grad[0]

    first = cells(shape, scale)
    other_shape, other_scale = shape.clone(), scale.clone()
    other_shape[2, 5], other_scale[2, 5] = 3.0, 4.0
    changed = (cells(other_shape, other_scale) != first).any(0).any(0)
    assert changed.nonzero().tolist() == [[2, 5]]


def test_the_millimetre_is_taken_off_before_the_distribution():
    """Trap 3: G(y - 1), not G(y)."""
    gamma = Gamma(np.full((1, 1), 2.0), np.full((1, 1), 3.0), np.full((1, 1), 9))
    found = loss_terms.gamma_weight(t(4.0)[None], t(2.0)[None], t(3.0)[None], 2.0).item()
    assert found == pytest.approx((1 - 2 * math.exp(-1.0)) ** 2) == pytest.approx(gamma.weight(np.full((1, 1), 4.0)).item())


def test_float64_neither_enters_nor_comes_out():
    """Trap 20: everything stays in float32."""
    for name in NAMES:
        emulator, loss = emulator_for(name), loss_for(name, coarse=0.1)
        total, _ = loss.totals(emulator, *days_for(emulator, 2))
        assert total.dtype == torch.float32 and loss.combine(total, torch.ones(2)).dtype == torch.float32


def test_half_precision_output_is_judged_in_float32():
    emulator, loss = emulator_for("gaussian"), loss_for("gaussian")
    inputs, truth = days_for(emulator)
    raws = emulator.members(inputs).detach()
    emulator.members = lambda *_: raws.bfloat16()
    assert loss.totals(emulator, inputs, truth)[0].dtype == torch.float32


@pytest.mark.parametrize("name", ["mse", "mae"])
def test_a_loss_of_its_own_is_the_same_loss(name):
    """The way by single targets gives the numbers of the short way, whichever target takes it."""
    emulator, inputs_truth = emulator_for(name), None
    inputs_truth = days_for(emulator)
    short = loss_for(name).totals(emulator, *inputs_truth)
    other = {"mse": "mae", "mae": "mse"}[name]
    mixed = make_loss(other, "none", targets=["tas", "pr"], own={"tas": name, "pr": name}, options=OPTIONS)
    for one, two in zip(short, mixed.totals(emulator, *inputs_truth), strict=True):
        torch.testing.assert_close(one, two)


def test_every_target_may_have_its_loss():
    spec = spec_of(coarse=(4, 5), fine=(8, 10), heads={"pr": KINDS["bernoulli_gamma"]}, transforms={"pr": "none"})
    emulator = build(spec).eval()
    inputs, truth = days_for(emulator)
    loss = make_loss("mse", "likelihood", targets=["tas", "pr"], own={"pr": "bernoulli_gamma"}, options=OPTIONS)
    total, count = loss.totals(emulator, inputs, truth)
    raw = emulator.raw(inputs)
    valid = torch.isfinite(truth)
    wanted = [
        (raw[:, 0] - truth[:, 0])[valid[:, 0]].square().sum(),
        loss_terms.bernoulli_gamma_nll(raw[:, 1:], truth[:, 1].nan_to_num(0.0), RAIN)[valid[:, 1]].sum(),
    ]
    torch.testing.assert_close(total, torch.stack(wanted))
    means = (total / count).tolist()
    assert loss.combine(total, count).item() == pytest.approx((math.log(means[0]) + means[1]) / 2)


def test_log_likelihoods_are_not_put_into_a_logarithm():
    total, count = t(4.0, -6.0), t(2.0, 3.0)
    assert combine(total, count, "likelihood", [False, True]).item() == pytest.approx((math.log(2.0) - 2.0) / 2)
    assert combine(total, count, "none", [False, True]).item() == pytest.approx(-2.0 / 5)
    assert make_loss("gaussian", "none").balance == "likelihood"  # it may be negative: no factor tells an explosion
    assert make_loss("gaussian", "none").combine(total, count).item() == pytest.approx(-0.4)
    assert make_loss("mse", "none").balance == "none"
    nothing = make_loss("gaussian", "likelihood").combine(torch.zeros(2), torch.zeros(2))
    assert nothing.item() == 0.0


def test_the_coarse_term_is_weighed_as_the_cells():
    """The error of a coarse cell is repeated by its fine cells: with equal errors everywhere the mean is (1 + beta) e^2."""
    emulator, loss = emulator_for("mse"), loss_for("mse", coarse=0.5)
    inputs, _ = days_for(emulator)
    truth = emulator.raw(inputs).detach() - 0.3
    truth[..., 0] = math.nan  # the column outside the coarse grid
    total, count = loss.totals(emulator, inputs, truth)
    assert (total / count).tolist() == pytest.approx([1.5 * 0.09] * 2, rel=1e-4)


def test_gamma_parameters_come_from_fit_gamma():
    """The shape found is that of the sample, with the millimetre off."""
    rain = torch.distributions.Gamma(torch.tensor(0.7), torch.tensor(0.2)).sample((3000, 1, 1, 1)).numpy() + 1.0

    class Days:
        def target(self, index):
            return rain[index]

        def split(self, name):
            return np.arange(3000)

    found = fit_gamma([Days()], 0)
    assert found.shape.item() == pytest.approx(0.7, rel=0.1) and found.scale.item() == pytest.approx(5.0, rel=0.1)


def test_heads_stand_in_the_order_of_the_targets():
    heads = Heads(["tas", "pr", "tasmax"], {"pr": KINDS["bernoulli_gamma"], "tasmax": KINDS["gaussian"]})
    assert [(head.kind, head.start) for head in heads.each] == [("point", 0), ("bernoulli_gamma", 1), ("gaussian", 4)]
    assert heads.channels == 6 and not heads.points
    raw = torch.arange(6.0).view(1, 6, 1, 1)
    assert heads.each[1].of(raw).flatten().tolist() == [1.0, 2.0, 3.0]
    base = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    assert heads.on_top(raw, base).flatten().tolist() == [10.0, 1.0, 2.0, 3.0, 34.0, 5.0]


def test_weights_worked_out_beforehand_are_those_of_the_step():
    """Days in memory carry them, streamed days do not: the same bits, whichever target has the loss."""
    emulator, fields = emulator_for("asymmetric_gamma"), fields_for()
    inputs, truth = days_for(emulator)
    for own in ({}, {"tas": "mae"}, {"pr": "huber"}):
        gamma = {name: value for name, value in fields.gamma.items() if name not in own}
        loss = make_loss("asymmetric_gamma", "none", targets=["tas", "pr"], own=own, options=OPTIONS, fields=LossFields(gamma=gamma))
        known = replace(inputs, weights=loss.weights(truth))
        assert known.weights.shape == (5, len(gamma), 8, 10) and torch.isfinite(known.weights).all()
        assert torch.equal(known[1:3].to("cpu").weights, known.weights[1:3])
        assert torch.equal(loss.totals(emulator, known, truth)[0], loss.totals(emulator, inputs, truth)[0])
        doubled = replace(known, weights=2 * known.weights)
        assert (loss.totals(emulator, doubled, truth)[0] > loss.totals(emulator, known, truth)[0]).tolist() == [
            n in gamma for n in ("tas", "pr")
        ]
    assert make_loss("mse", "none").weights(truth) is None


def test_a_loss_of_single_values_is_one_function_and_one_entry(monkeypatch):
    """As docs/howto/add-a-loss.md adds one."""

    def log_cosh(error):
        return error.abs() + torch.nn.functional.softplus(-2 * error.abs()) - math.log(2)

    torch.testing.assert_close(log_cosh(t(-3.0, 0.0, 0.5)), t(-3.0, 0.0, 0.5).cosh().log())
    monkeypatch.setitem(LOSSES, "log_cosh", log_cosh)
    emulator = emulator_for("mse")
    inputs, truth = days_for(emulator)
    valid = torch.isfinite(truth)
    for loss in (make_loss("log_cosh", "none"), make_loss("mse", "none", targets=["tas", "pr"], own={"tas": "log_cosh", "pr": "log_cosh"})):
        total, _ = loss.totals(emulator, inputs, truth)
        wanted = torch.where(valid, log_cosh(emulator.raw(inputs) - truth.nan_to_num(0.0)), 0.0).sum((0, 2, 3))
        torch.testing.assert_close(total, wanted)
