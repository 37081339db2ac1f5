"""Contributions and responses of every kind of network, head and scaling: finite, complete, and blind to what is not read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model_samples import nearest_way, spec_of  # noqa: E402

from downscale.apply.attribute import integrated_gradients  # noqa: E402
from downscale.models.registry import build  # noqa: E402

pytestmark = pytest.mark.slow

HEADS = {"tas": {"kind": "gaussian"}, "pr": {"kind": "bernoulli_gamma", "wet_mm": 1.0}}
SPECS = {
    "resunet": spec_of(),
    "resunet on ridge": spec_of(backbone="ridge"),
    "unet_doury": spec_of("unet_doury"),
    "deepesd": spec_of("deepesd"),
    "ridge": spec_of("ridge"),
    "kernel_ridge": spec_of("kernel_ridge"),
    "map scaling": spec_of(normalise="map"),
    "monthly scaling": spec_of(normalise="monthly"),
    "distributions": spec_of(heads=HEADS),
    "noise": spec_of(noise=4),
    "several days": spec_of(days=[-1, 0]),
    "masked": spec_of(masked=["c1"]),
    "dropped": spec_of(dropped=["c2"]),
    "bent": spec_of(transforms={"pr": "sqrt"}),
}


def run_of(spec):
    """An emulator with weights that say something, and a third of the cells without truth."""
    torch.manual_seed(0)
    emulator = build(spec).eval()
    emulator.locate(*nearest_way(spec["coarse_shape"], spec["fine_shape"]), torch.rand(len(spec["fixed"]), *spec["fine_shape"]))
    for module in emulator.modules():
        if spec["model"]["name"] == "unet_doury" and isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_normal_(module.weight)  # fresh, it is nearly flat
    for name, value in [*emulator.named_parameters(), *emulator.named_buffers()]:
        if name.endswith(("head.weight", "dense.weight", "backbone.weight", "dual", "axes", "scores")) and value.is_floating_point():
            torch.nn.init.normal_(value, std=0.05)
    emulator.target.mean[:, :, :10] = torch.nan
    emulator.target.std[:, :, :10] = torch.nan
    return SimpleNamespace(
        emulator=emulator, spec=spec, device=torch.device("cpu"), path="run", fine=SimpleNamespace(shape=spec["fine_shape"])
    )


def days_of(spec, n=3):
    rng = np.random.default_rng(0)
    channels, (y, x) = len(spec["channels"]) * len(spec.get("days", (0,))), spec["coarse_shape"]
    maps = (1 + 0.5 * rng.standard_normal((n, channels, y, x))).astype(np.float32)
    surface = np.zeros((n, len(spec["targets"]), y, x), np.float32)
    return maps, rng.random((n, len(spec["scalars"]))).astype(np.float32), surface, np.array([20000115, 20000715, 20001015])


@pytest.mark.parametrize("name", SPECS)
def test_contributions_are_finite_and_add_up(name):
    spec = SPECS[name]
    run, days = run_of(spec), days_of(spec)
    weights = np.where(np.arange(spec["fine_shape"][1]) < 10, 0.0, 1.0) * np.ones((2, *spec["fine_shape"]))
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    found = integrated_gradients(run, days, days[0].mean(axis=0) * 0.5, weights, steps=48)
    assert found.maps.shape == (3, 2, 3, 8, 8)
    assert np.isfinite(found.maps).all()
    assert found.maps.any()
    assert (found.error < 0.1).all()
    if name == "dropped":
        assert not found.maps[:, :, 2].any()


def test_the_emulator_itself_is_left_as_it_is():
    spec = spec_of()
    run = run_of(spec)
    before = {key: value.clone() for key, value in run.emulator.state_dict().items()}
    integrated_gradients(run, days_of(spec), np.zeros((3, 8, 8)), np.full((2, 32, 32), 1 / 1024), steps=1)
    for key, value in run.emulator.state_dict().items():
        torch.testing.assert_close(value, before[key], equal_nan=True, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in run.emulator.parameters())
