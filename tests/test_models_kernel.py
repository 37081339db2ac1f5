"""Kernel ridge regression: against the textbook's closed form, its choices, what it refuses, and as a baseline run."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_world import make_config, make_store  # noqa: E402

from downscale.errors import ConfigError  # noqa: E402
from downscale.models import Inputs  # noqa: E402
from downscale.models.kernel_ridge import KernelRidge, linear_and_gaussian  # noqa: E402
from downscale.training import kernel_ridge as fitting  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.kernel_ridge import check_days, fit_kernel_ridge, kernel_sizes  # noqa: E402
from downscale.training.run import load_run  # noqa: E402

SEASON = ["season_cos", "season_sin"]


def days(n, seed, truth):
    """n days of 2 x 3 maps with numbers, and the truth of them (n, target, 2, 2)."""
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(n, 1, 2, 3, generator=random)
    inputs = Inputs(maps, torch.randn(n, 2, generator=random), torch.full((n, 1, 2, 3), torch.nan))
    targets = truth(maps.flatten(1))
    return inputs, targets


def fitted(truth, *, targets=("tas",), n=60, components=(8,), alphas=(0.1,), gammas=(0.5,), change=lambda y: y):
    learn, judge = (days(size, seed, truth) for size, seed in ((n, 0), (30, 1)))
    model = KernelRidge(1, SEASON, (2, 3), len(targets), (2, 2), **kernel_sizes(n, components, 8))
    candidates = {"components": components, "alphas": alphas, "gammas": gammas}
    learn = (learn[0], change(learn[1].clone()))
    chosen = fit_kernel_ridge(
        model, lambda: iter([learn]), lambda: iter([judge]), candidates=candidates, targets=targets, channels=["zg500"]
    )
    return model, chosen, learn, judge


def four(*columns):
    """(n, target, 2, 2): each target's column at all four points."""
    return torch.stack([column[:, None, None].expand(-1, 2, 2) for column in columns], 1).contiguous()


def linear(z):
    return four(z[:, 0] + 2 * z[:, 3] + 1)


def bent(z):
    return four((2 * z[:, 0]).sin() + z[:, 1] * z[:, 2])


def test_the_kernel_by_hand():
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    assert torch.allclose(linear_and_gaussian(first, second, 0.5), torch.tensor([[0 + np.exp(-2.5), 1 + np.exp(-0.5)]]).float())


def test_it_is_the_closed_form_of_the_textbook():
    """f(x) = mean + k(x)' (K + alpha I)^-1 (y - mean), with numpy and all components."""
    model, chosen, (inputs, targets), (ahead, _) = fitted(bent)
    assert chosen == {"tas": {"predictors": "all", "components": 8, "alpha": 0.1, "gamma": 0.5}}
    x, there = (np.concatenate([one.predictors.flatten(1), one.scalars], 1).astype(np.float64) for one in (inputs, ahead))
    y = targets.flatten(1).numpy().astype(np.float64)
    x, there = x - x.mean(0), there - x.mean(0)
    scale = np.sqrt((x**2).sum(1).mean())
    x, there = x / scale, there / scale

    def kernel(a, b):
        return a @ b.T + np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1))

    wanted = y.mean(0) + kernel(there, x) @ np.linalg.solve(kernel(x, x) + 0.1 * np.eye(len(x)), y - y.mean(0))
    assert np.allclose(model(ahead).flatten(1).numpy(), wanted, atol=2e-4)


def test_with_few_days_the_axes_come_from_the_days_side():
    many, few = (fitted(linear, n=n, components=(3,))[0] for n in (60, 7))
    for model in (many, few):
        gram = model.axes.T @ model.axes
        assert torch.allclose(gram, torch.eye(3), atol=1e-4)
    variances = many.scores.var(0)
    assert (variances[:-1] >= variances[1:]).all()


def test_it_bends_where_ridge_cannot_and_goes_on_linearly():
    model, _, _, (ahead, truth) = fitted(bent, n=300, alphas=(0.003, 0.03, 0.3), gammas=(0.1, 0.3, 1.0))
    error = (model(ahead) - truth).square().mean()
    assert error < 0.35 * truth.var()
    straight, *_ = fitted(linear, n=300, alphas=(1e-3,), gammas=(0.05,))
    far = Inputs(torch.full((3, 1, 2, 3), 1.0) * torch.tensor([10.0, 20.0, 30.0])[:, None, None, None], torch.zeros(3, 2), torch.zeros(1))
    line = straight(far)[:, 0, 0, 0]
    assert line[1] - line[0] == pytest.approx(float(line[2] - line[1]), rel=1e-2)
    assert line[1] - line[0] == pytest.approx(30.0, rel=0.15)  # the Gaussian part has taken some of the slope


def test_each_target_chooses_for_itself():
    both = lambda z: torch.cat([linear(z), bent(z)], 1)  # noqa: E731
    _, chosen, *_ = fitted(both, targets=("tas", "pr"), n=300, components=(4, 8), alphas=(0.003, 0.3), gammas=(0.01, 0.3))
    assert chosen["tas"]["gamma"] == 0.01
    assert chosen["pr"]["gamma"] == 0.3
    assert chosen["tas"]["components"] == 8


def of_two_channels(n, seed):
    """tas follows its own field, pr both; the other field of tas is noise to it."""
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(n, 2, 2, 3, generator=random) * torch.tensor([1.0, 5.0])[:, None, None]
    inputs = Inputs(maps, torch.zeros(n, 2), torch.full((n, 1, 2, 3), torch.nan))
    return inputs, four(maps[:, 0, 0, 0].sin() + maps[:, 0, 1, 1], maps[:, 0, 0, 0] + maps[:, 1, 1, 1])


def test_it_reads_the_own_field_where_the_others_only_add_noise_and_refits_as_chosen():
    """As chosen from 50 days: all 8 + 8 components, then the own field's 8; fitted again to all 80 it is what one candidate gives there."""
    learn, judge = of_two_channels(50, 0), of_two_channels(30, 1)
    channels, numbers = ["tas", "zg500"], {"numbers": 2, "targets": ("tas", "pr"), "channels": ("tas", "zg500")}
    sizes = kernel_sizes(80, (8,), 14, **numbers)
    assert sizes == {"days": 80, "components": 8 + 8}

    def fit(train, candidates, refit=None, days=80):
        model = KernelRidge(2, SEASON, (2, 3), 2, (2, 2), **{**sizes, "days": days})
        options = {"targets": ["tas", "pr"], "channels": channels, "candidates": {"components": [8], **candidates}}
        return model, fit_kernel_ridge(model, train, lambda: iter([judge]), refit=refit, **options)

    candidates = {"alphas": [0.01, 0.1], "gammas": [0.1, 0.3]}
    both = lambda: iter([learn, judge])  # noqa: E731
    _, chosen = fit(lambda: iter([learn]), candidates, days=50)
    model, again = fit(lambda: iter([learn]), candidates, refit=both)
    assert again == chosen
    assert {name: facts["predictors"] for name, facts in chosen.items()} == {"tas": "own", "pr": "all"}
    assert model.first.tolist() == [8, 0] and model.used.tolist() == [8, 8]
    assert not model.axes[6:12, 8:].any() and model.axes[6:12, :8].any()
    one, _ = fit(both, {"alphas": [chosen["tas"]["alpha"]], "gammas": [chosen["tas"]["gamma"]]})
    assert torch.allclose(model(judge[0])[:, 0], one(judge[0])[:, 0], atol=1e-5)


def test_missing_truth_counts_as_the_mean_and_the_sea_as_nothing():
    def change(y):
        y[3, :, 0, 0] = torch.nan
        y[:, :, 1, 1] = torch.nan
        return y

    model, _, (inputs, targets), _ = fitted(linear, change=change)
    fields = model(inputs)
    assert torch.isfinite(fields).all()
    assert not fields[:, :, 1, 1].any()
    assert model.intercept[0] == pytest.approx(float(targets[:, 0, 0, 0].nanmean()), abs=1e-5)


def test_too_many_days_are_refused():
    check_days(20_000)
    with pytest.raises(ConfigError) as caught:
        check_days(20_001)
    assert caught.value.code == 2
    assert len(caught.value.lines()) == 3


# --- as a run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch):
    made = make_store()
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: made))
    return made


def small(folder, **kernel):
    cfg = make_config(folder, model={"backbone": "none", "dropout": 0.0}, train={"epochs": 1, "baselines": ["kernel_ridge"]})
    return cfg.model_copy(update={"kernel_ridge": cfg.kernel_ridge.model_copy(update=kernel)})


def test_the_baseline_is_a_run_and_is_kept_while_its_recipe_is_the_same(tmp_path, store):
    first = modes.train_run(small(tmp_path), device="cpu")
    assert first["baselines"] == ["kernel_ridge-RCM_A-perfect: fitted"]
    run = load_run(tmp_path / "runs" / "kernel_ridge-RCM_A-perfect", device="cpu")
    assert run.facts["role"] == "baseline"
    assert set(run.card["kernel_ridge"]) == {"tas", "pr"}
    arrays = store.groups["RCM_A"].arrays
    inputs = Inputs(*(torch.from_numpy(arrays[name]) for name in ("perfect", "scalars", "surface")))
    fields = run.emulator(inputs).numpy()
    validation = store.groups["RCM_A"].splits["validation"]
    assert np.isnan(fields[..., :2]).all()
    assert np.nanmean((fields - arrays["target"])[validation, 0] ** 2) ** 0.5 < 0.1  # the noise is 0.05
    assert modes.train_run(small(tmp_path), device="cpu")["baselines"] == ["kernel_ridge-RCM_A-perfect: complete already"]
    card = json.loads((run.path / "model.json").read_text())
    assert card["recipe"]["kernel_ridge"] == small(tmp_path).kernel_ridge.model_dump()


def test_too_many_days_are_refused_before_anything_is_written(tmp_path, store, monkeypatch):
    monkeypatch.setattr(fitting, "MOST_DAYS", 100)
    with pytest.raises(ConfigError, match="168 training days"):
        modes.train_run(small(tmp_path), device="cpu")
    assert not (tmp_path / "runs").exists()
