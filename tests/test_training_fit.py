"""Ridge against its formula, the loop, exact resume, checkpoints, losses, the choice of years."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from faults import fault  # noqa: E402
from training_world import days_of, make_group, make_store  # noqa: E402

from downscale.errors import ConfigError, DownscaleError, InputDataError, Stopped  # noqa: E402
from downscale.models import build  # noqa: E402
from downscale.models.linear import Climatology, Ridge  # noqa: E402
from downscale.pairs.normalise import compute_statistics  # noqa: E402
from downscale.training import watch  # noqa: E402
from downscale.training.assemble import load_statistics, new_emulator  # noqa: E402
from downscale.training.checkpoint import Checkpoint, CheckpointFolder  # noqa: E402
from downscale.training.feed import MemoryDays  # noqa: E402
from downscale.training.loop import evaluate, fit  # noqa: E402
from downscale.training.losses import combine, make_loss, totals  # noqa: E402
from downscale.training.order import Order  # noqa: E402
from downscale.training.ridge import fit_climatology, fit_ridge  # noqa: E402
from downscale.training.samples import Portion, check_memory, load_samples, split_portions, way_to_fine  # noqa: E402
from downscale.training.shots import choose_years, shot_index  # noqa: E402
from downscale.training.state import Settings, State  # noqa: E402


class Flag:
    """A StopFlag that rises after some looks."""

    name = "SIGTERM"

    def __init__(self, looks=10**9):
        self.looks = looks

    @property
    def set(self):
        self.looks -= 1
        return self.looks < 0


def spec_of(store, name="resunet", **model):
    return {
        "model": {"name": name, "width": 8, "backbone": "none", "dropout": 0.0, **model},
        "channels": store.channels,
        "targets": store.targets,
        "scalars": store.scalars,
        "coarse_shape": list(store.coarse.shape),
        "fine_shape": list(store.fine.shape),
        "normalise": "gridpoint",
        "transforms": {},
        "non_negative": ["pr"],
        "fixed": ["orog", "y", "x"] if name == "resunet" else [],
    }


@pytest.fixture(scope="module")
def world():
    store = make_store()
    statistics = compute_statistics([(store.groups["RCM_A"], "perfect")], {}, store.targets, store.scalars)
    samples = {split: MemoryDays(load_samples(split_portions(store, ["RCM_A/perfect"], split))) for split in ("train", "validation")}
    return store, statistics, samples


def new_state(world, settings, **model):
    store, statistics, _ = world
    torch.manual_seed(settings.seed)
    return State(new_emulator(spec_of(store, **model), store, statistics), settings)


def run(world, state, *, flag=None, save=lambda state, now: None, rows=None):
    _, _, samples = world
    fit(
        state,
        samples["train"],
        samples["validation"],
        stop=flag or Flag(),
        save=save,
        epoch_end=lambda epoch, row: rows is None or rows.append(row),
    )
    return state


def weights(state):
    return {name: value.clone() for name, value in state.emulator.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first if not name.startswith("target."))


# --- ridge and climatology ---------------------------------------------------------------------------------------------------


def ridge_days(n, cells=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, cells + 2, generator=random)
    from downscale.models.inputs import Inputs

    inputs = Inputs(x[:, :cells].reshape(n, 1, 1, cells), x[:, cells:], torch.zeros(n, 1, 1, cells))
    y = (x @ torch.linspace(-1, 1, (cells + 2) * 4).view(cells + 2, 4) + 3).view(n, 2, 1, 2)
    return x.double(), inputs, y + 0.3 * torch.randn(y.shape, generator=random)


def names(alphas, targets=("tas", "pr"), channels=("zg500",)):
    return {"alphas": alphas, "targets": list(targets), "channels": list(channels)}


def blocks(inputs, y, size=7):
    return lambda: ((inputs[i : i + size], y[i : i + size]) for i in range(0, len(y), size))


@pytest.mark.parametrize(("n", "cells"), [(40, 3), (12, 30)], ids=["covariance", "days"])
def test_ridge_is_the_closed_form(n, cells):
    x, inputs, y = ridge_days(n, cells)
    ridge = Ridge(1, ["season_cos", "season_sin"], (1, cells), 2, (1, 2))
    chosen = fit_ridge(ridge, blocks(inputs, y), blocks(inputs, y), **names([5.0]))
    assert chosen == {key: {"alpha": 5.0, "predictors": "all"} for key in ("tas", "pr")}
    centred, target = x - x.mean(0), y.flatten(1).double()
    wanted = torch.linalg.solve(centred.T @ centred + 5.0 * torch.eye(cells + 2).double(), centred.T @ (target - target.mean(0)))
    assert torch.allclose(ridge.weight.double(), wanted, atol=1e-5)
    assert torch.allclose(ridge.intercept.double(), target.mean(0) - x.mean(0) @ wanted, atol=1e-5)


def test_ridge_by_hand():
    """Two days, x = -1 and 1, y = -3 and 3: X'X = 2, X'y = 6, alpha 1 gives 6 / 3 = 2."""
    from downscale.models.inputs import Inputs

    inputs = Inputs(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1), torch.zeros(2, 2), torch.zeros(2, 1, 1, 1))
    ridge = Ridge(1, ["season_cos", "season_sin"], (1, 1), 1, (1, 1))
    fit_ridge(
        ridge, blocks(inputs, torch.tensor([7.0, 13.0]).view(2, 1, 1, 1)), blocks(inputs, torch.zeros(2, 1, 1, 1)), **names([1.0], ["tas"])
    )
    assert ridge.weight.flatten().tolist() == pytest.approx([2.0, 0.0, 0.0])
    assert ridge.intercept.item() == pytest.approx(10.0)


@pytest.mark.parametrize(("n", "cells"), [(40, 3), (12, 30)], ids=["covariance", "days"])
def test_ridge_chooses_alpha_by_target_on_validation_days(n, cells):
    _, inputs, y = ridge_days(n, cells)
    _, held_inputs, held_y = ridge_days(25, cells, seed=1)
    random = torch.Generator().manual_seed(5)
    y[:, 1], held_y[:, 1] = (
        torch.randn(days, 1, 2, generator=random) for days in (n, 25)
    )  # the second target is noise: the largest alpha is best
    alphas = [1e-3, 1.0, 1e5]
    ridge = Ridge(1, ["season_cos", "season_sin"], (1, cells), 2, (1, 2))
    chosen = fit_ridge(ridge, blocks(inputs, y), blocks(held_inputs, held_y), **names(alphas))
    errors = {}
    for alpha in alphas:
        fit_ridge(ridge, blocks(inputs, y), blocks(held_inputs, held_y), **names([alpha]))
        errors[alpha] = (ridge(held_inputs) - held_y).square().mean((0, 2, 3)).tolist()
    alpha_of = {name: facts["alpha"] for name, facts in chosen.items()}
    assert alpha_of == {"tas": min(alphas, key=lambda a: errors[a][0]), "pr": min(alphas, key=lambda a: errors[a][1])}
    assert alpha_of["pr"] == 1e5


@pytest.mark.parametrize(("n", "cells"), [(40, 3), (12, 30)], ids=["covariance", "days"])
def test_ridge_is_fitted_again_to_all_days_as_chosen(n, cells):
    """The choice is that of the held-out days, the weights are those of one candidate fitted to all days."""
    _, inputs, y = ridge_days(n, cells)
    _, held_inputs, held_y = ridge_days(25, cells, seed=1)
    days = blocks(inputs, y), blocks(held_inputs, held_y)

    def both():
        yield from days[0]()
        yield from days[1]()

    ridge, one = (Ridge(1, ["season_cos", "season_sin"], (1, cells), 2, (1, 2)) for _ in range(2))
    chosen = fit_ridge(ridge, *days, refit=both, **names([1e-3, 1.0, 1e5]))
    assert chosen == fit_ridge(one, *days, **names([1e-3, 1.0, 1e5]))
    assert not torch.allclose(ridge.weight, one.weight, rtol=1e-3)
    for place, target in enumerate(("tas", "pr")):
        fit_ridge(one, both, both, **names([chosen[target]["alpha"]]))
        points = slice(2 * place, 2 * place + 2)
        assert torch.allclose(ridge.weight[:, points], one.weight[:, points])
        assert torch.allclose(ridge.intercept[points], one.intercept[points])


def test_ridge_takes_the_own_field_where_the_others_only_add_noise():
    from downscale.models.inputs import Inputs

    random = torch.Generator().manual_seed(3)
    days = []
    for n in (30, 200):
        maps = torch.randn(n, 9, 1, 2, generator=random)
        truth = torch.stack([maps[:, 4], maps.sum(1)], 1) + 0.3 * torch.randn(n, 2, 1, 2, generator=random)
        days.append((Inputs(maps, torch.zeros(n, 2), maps), truth))
    ridge = Ridge(9, ["season_cos", "season_sin"], (1, 2), 2, (1, 2))
    channels = ["a", "b", "c", "d", "tas", "e", "f", "g", "pr"]
    chosen = fit_ridge(ridge, blocks(*days[0]), blocks(*days[1]), **names([0.1, 1.0, 10.0], channels=channels))
    assert {name: facts["predictors"] for name, facts in chosen.items()} == {"tas": "own", "pr": "all"}
    weight = ridge.weight.view(20, 2, 2)
    assert weight[8:10, 0].diagonal().min() > 0.7
    assert not torch.cat([weight[:8, 0], weight[10:18, 0]]).any()
    assert weight[:18, 1].abs().min() > 0


def test_ridge_leaves_sea_points_at_zero():
    _, inputs, y = ridge_days(40)
    whole = y.clone()
    y[:, :, :, 0] = math.nan
    ridge, other = (Ridge(1, ["season_cos", "season_sin"], (1, 3), 2, (1, 2)) for _ in range(2))
    fit_ridge(ridge, blocks(inputs, y), blocks(inputs, y), **names([1.0]))
    fit_ridge(other, blocks(inputs, whole), blocks(inputs, whole), **names([1.0]))
    assert not ridge.weight.view(-1, 2, 2)[:, :, 0].any()
    assert torch.allclose(ridge.weight.view(-1, 2, 2)[:, :, 1], other.weight.view(-1, 2, 2)[:, :, 1])


def test_climatology_finds_an_annual_cycle_even_from_one_season():
    from downscale.models.inputs import Inputs

    for phases in (np.arange(0, 1, 0.01), np.arange(0, 0.2, 0.002)):
        angle = torch.from_numpy(2 * np.pi * phases).float()
        inputs = Inputs(torch.zeros(len(angle), 1, 1, 1), torch.stack([angle.cos(), angle.sin()], 1), torch.zeros(len(angle), 1, 1, 1))
        y = (2.0 + 3.0 * angle.cos() - angle.sin()).view(-1, 1, 1, 1)
        climatology = Climatology(["season_cos", "season_sin"], 1, (1, 1))
        fit_climatology(climatology, blocks(inputs, y))
        assert (climatology(inputs) - y).abs().max() < 2e-2


# --- losses ------------------------------------------------------------------------------------------------------------------


def test_losses_by_hand_with_missing_cells():
    estimate = torch.tensor([1.0, 5.0, 2.0, 7.0], requires_grad=True)
    truth = torch.tensor([3.0, math.nan, 1.0, 7.5]).view(1, 2, 1, 2)
    for loss, sums in (("mse", [4.0, 1.25]), ("mae", [2.0, 1.5])):
        total, count = totals(loss, estimate.view(1, 2, 1, 2), truth)
        assert (total.tolist(), count.tolist()) == (sums, [1, 2])
        assert combine(total, count, "none").item() == pytest.approx(sum(sums) / 3)
        assert combine(total, count, "likelihood").item() == pytest.approx((math.log(sums[0]) + math.log(sums[1] / 2)) / 2)
    combine(total, count, "none").backward()
    assert estimate.grad.tolist() == pytest.approx([-1 / 3, 0.0, 1 / 3, -1 / 3])


def test_no_valid_cell_is_no_loss():
    nothing = totals("mse", torch.ones(1, 2, 1, 1), torch.full((1, 2, 1, 1), math.nan))
    assert combine(*nothing, "none").item() == combine(*nothing, "likelihood").item() == 0.0


def test_evaluation_weighs_batches_by_their_cells(world, monkeypatch):
    _, _, samples = world
    state = new_state(world, Settings())
    whole = evaluate(state.emulator, samples["validation"], make_loss("mse", "none"))
    monkeypatch.setattr("downscale.training.loop.EVALUATION_DAYS", 3)  # 28 days: the last batch has one
    parts = evaluate(state.emulator, samples["validation"], make_loss("mse", "none"))
    assert parts == pytest.approx(whole, rel=1e-5)
    held = samples["validation"].samples
    with torch.no_grad():
        error = state.emulator.eval()(held.inputs) - held.target
    assert whole["rmse_tas"] == pytest.approx(float(error[:, 0][torch.isfinite(error[:, 0])].square().mean().sqrt()), rel=1e-5)


# --- the loop ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "share"), [("resunet", 0.4), ("unet_doury", 0.7)])
def test_networks_learn_a_linear_truth(world, name, share):
    """Independent cells, 168 days: hard for a UNet that goes down to one cell, so the share of the loss that may stay differs."""
    rows = []
    run(world, new_state(world, Settings(epochs=10, batch_size=8, learning_rate=1e-2), name=name), rows=rows)
    assert rows[-1]["train_loss"] < share * rows[1]["train_loss"]
    assert min(row["rmse_tas"] for row in rows) < rows[0]["rmse_tas"]


@fault(
    "S04",
    "optimiser, learning rate, random numbers, position, patience, average and best go on: the same bits on a CPU",
)
@pytest.mark.parametrize(
    ("schedule", "name", "refit"), [("cosine", "resunet", False), ("plateau", "unet_doury", False), ("cosine", "resunet", True)]
)
def test_resume_at_any_step_is_bitwise_exact(world, tmp_path, schedule, name, refit):
    settings = Settings(epochs=3, batch_size=32, learning_rate=3e-3, ema=0.9, schedule=schedule, l2_sp=1e-4, refit=refit)
    model = {"name": name, "dropout": 0.2}
    rows, resumed_rows = [], []
    whole = run(world, new_state(world, settings, **model), rows=rows)
    state = new_state(world, settings, **model)
    folder = CheckpointFolder(tmp_path)
    for looks in (0, 7, 2, 10**9):  # stop after 1, 8 and 3 more steps (6 steps an epoch)
        try:
            run(world, state, flag=Flag(looks), save=lambda state, now: folder.save(state.checkpoint()), rows=resumed_rows)
        except Stopped:
            torch.manual_seed(12345)  # another process has other random numbers
            state = new_state(world, settings, **model)
            for value in state.parameters.values():
                value.data.normal_()
            state.restore(folder.load())
    assert equal(weights(whole), weights(state))
    assert [{**row, "seconds": 0, "train_loss": str(row["train_loss"])} for row in state.history] == [
        {**row, "seconds": 0, "train_loss": str(row["train_loss"])} for row in whole.history
    ]
    assert len(rows) == len(resumed_rows) == 4


def test_the_same_seed_gives_the_same_bits_and_another_does_not(world):
    runs = [weights(run(world, new_state(world, Settings(epochs=1, seed=seed, batch_size=64)))) for seed in (1, 1, 2)]
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def script_losses(monkeypatch, losses):
    """Validation gives these losses, one after the other; what it is given stands in the result, by loss."""
    left, seen = iter(losses), {}

    def scripted(emulator, days, loss, ranks):
        value = next(left)
        seen[value] = {name: tensor.clone() for name, tensor in emulator.state_dict().items()}
        return {"validation_loss": value, "rmse_tas": value, "rmse_pr": value}

    monkeypatch.setattr("downscale.training.loop.evaluate", scripted)
    return seen


def test_early_stopping_restores_the_best_weights(world, monkeypatch):
    seen = script_losses(monkeypatch, [5.0, 3.0, 4.0, 4.5, 9.0])
    state = run(world, new_state(world, Settings(epochs=50, patience=2, batch_size=64)))
    assert (state.epoch, state.best_epoch, state.best_loss) == (3, 1, 3.0)
    assert equal(weights(state), seen[3.0])
    assert not equal(weights(state), seen[4.5])


def test_refit_keeps_the_last_weights_and_never_stops_early(world, monkeypatch):
    seen = script_losses(monkeypatch, [5.0, 3.0, 4.0, 4.5, 9.0])
    state = run(world, new_state(world, Settings(epochs=4, patience=1, batch_size=64, ema=0.9, refit=True)))
    assert (state.epoch, state.best_epoch, state.best_loss) == (4, 4, 3.0)
    assert equal(weights(state), seen[9.0])


def test_refit_never_keeps_weights_without_a_finite_loss():
    state = State(build(spec_of(make_store())), Settings(refit=True))
    for epoch, loss in enumerate((5.0, 6.0, math.nan, math.inf)):
        state.epoch = epoch
        state.judge(loss)
    assert state.best_epoch == 1


def test_the_start_counts_as_a_candidate(world):
    """Where training only makes it worse, the start comes back: a network on a backbone never loses to it on validation days."""
    state = new_state(world, Settings(epochs=2, learning_rate=0.2, warmup_epochs=0, batch_size=64))
    before = weights(state)
    run(world, state)
    assert state.best_epoch == 0
    assert equal(weights(state), before)


def test_plateau_lowers_the_rate_after_four_epochs_without_progress():
    store = make_store()
    state = State(build(spec_of(store)), Settings(schedule="plateau", learning_rate=1.0))
    rates = []
    for loss in (3.0, 4.0, 4.0, 4.0, 4.0, 4.0):
        state.judge(loss)
        state.set_learning_rate(10)
        rates.append(state.learning_rate)
    assert rates == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.7, 0.7])


def test_cosine_schedule_by_hand():
    state = State(build(spec_of(make_store())), Settings(epochs=11, warmup_epochs=1, learning_rate=1.0))
    rates = {}
    for state.steps_done in (0, 4, 10, 60, 110):
        state.set_learning_rate(10)
        rates[state.steps_done] = state.learning_rate
    assert rates == pytest.approx({0: 0.1, 4: 0.5, 10: 1.0, 60: 0.5, 110: 1e-6}, abs=1e-5)


def test_each_day_is_seen_once_an_epoch_and_no_batch_has_one_day():
    state = State(build(spec_of(make_store())), Settings(batch_size=8))
    batches = state.batches(Order(33))
    assert sorted(torch.cat(batches).tolist()) == list(range(33))
    assert [len(batch) for batch in batches] == [8, 8, 8, 9]
    first = torch.cat(batches)
    state.epoch = 1
    assert not torch.equal(torch.cat(state.batches(Order(33))), first)


def test_l2_sp_penalty_by_hand_and_its_pull(world):
    state = new_state(world, Settings(l2_sp=0.5))
    assert float(torch.as_tensor(state.anchor_penalty()).detach()) == 0.0
    parameter = next(iter(state.parameters.values()))
    with torch.no_grad():
        parameter.view(-1)[0] += 2.0
    assert state.anchor_penalty().item() == pytest.approx(0.5 * 0.5 * 4.0)
    starts = weights(new_state(world, Settings()))
    moved = [
        sum(
            (value - starts[name]).detach().square().sum().item()
            for name, value in run(world, new_state(world, settings)).parameters.items()
        )
        for settings in (Settings(epochs=2, batch_size=32), Settings(epochs=2, batch_size=32, l2_sp=100.0))
    ]
    assert moved[1] < 0.5 * moved[0]


def spoilt(positions, value, name="resunet", **settings):
    """A training in which some days hold a value that no loss survives: its state, its days, and what runs it."""
    store = make_store()
    group = store.groups["RCM_A"]
    statistics = compute_statistics([(group, "perfect")], {}, store.targets, store.scalars)
    train, validation = (load_samples(split_portions(store, ["RCM_A/perfect"], split)) for split in ("train", "validation"))
    train.inputs.predictors[positions] = value
    torch.manual_seed(0)
    state = State(new_emulator(spec_of(store, name), store, statistics), Settings(batch_size=16, epochs=2, **settings))
    return (
        state,
        train,
        lambda save=lambda state, now: None: fit(
            state, MemoryDays(train), MemoryDays(validation), stop=Flag(), save=save, epoch_end=lambda epoch, row: None
        ),
    )


def test_three_bad_steps_in_a_row_stop_and_name_their_days():
    state, _, train = spoilt(slice(None), math.inf)
    before = weights(state)
    with pytest.raises(InputDataError, match="not finite") as error:
        train()
    (line,) = error.value.findings
    assert error.value.code == 4 and line.startswith("RCM_A/perfect: ") and len(line.split()) == 1 + 3 * 16
    assert equal(before, weights(state))


def test_bad_steps_without_bad_data_are_the_trainings_fault():
    _, _, train = spoilt([], 0.0, learning_rate=1e25, warmup_epochs=0.0, schedule="plateau")
    with pytest.raises(DownscaleError, match="not finite") as error:
        train()
    assert error.value.code == 1 and "learning_rate" in error.value.hint and len(error.value.findings[0].split()) == 49


@pytest.mark.parametrize("name", ["resunet", "unet_doury"])
def test_a_single_bad_step_is_left_out_and_changes_nothing(name, caplog):
    """Each epoch one batch holds an infinite day: it is skipped, batch norm's running statistics included."""
    state, _, train = spoilt([5], math.inf, name)
    train()
    assert state.epoch == 2 and all(torch.isfinite(value).all() for key, value in weights(state).items() if not key.startswith("target"))
    assert all(math.isfinite(row["train_loss"]) for row in state.history[1:])
    assert sum("a step is left out" in record.message for record in caplog.records) == 2


def test_the_last_good_checkpoint_stays(tmp_path):
    """The second epoch meets nothing but infinite days: the checkpoint of the first is whole and goes on."""
    state, samples, train = spoilt([], 0.0)
    folder, good = CheckpointFolder(tmp_path), {}

    def save(current, now):
        folder.save(current.checkpoint())
        good.update(weights(current))
        samples.inputs.predictors.fill_(math.inf)

    with pytest.raises(InputDataError):
        train(save)
    other, _, _ = spoilt([], 0.0)
    other.restore(folder.load())
    assert (other.epoch, other.bad_steps) == (1, 0) and equal(good, weights(other)) and equal(good, weights(state))


def test_bad_steps_survive_a_resume(tmp_path):
    state, _, _ = spoilt([], 0.0)
    state.count(None, 16)
    state.bad_days.append("20000101")
    folder = CheckpointFolder(tmp_path)
    folder.save(state.checkpoint())
    other, _, _ = spoilt([], 0.0)
    other.restore(folder.load())
    assert (other.bad_steps, other.bad_days, other.step, other.samples_seen) == (1, ["20000101"], 1, 0)
    other.count(0.5, 16)
    assert (other.bad_steps, other.bad_days, other.loss_sum) == (0, [], 8.0)


@pytest.mark.parametrize(
    ("losses", "balance", "ends"),
    [
        ((1.0, 900.0), "none", False),
        ((1.0, 1100.0), "none", True),
        ((-1.0, 5.8), "likelihood", False),
        ((-1.0, 6.0), "likelihood", True),
        ((1.0, math.nan), "none", True),
        ((math.nan,), "none", False),
    ],
)
def test_an_explosion_is_a_thousandfold_loss(losses, balance, ends):
    assert watch.exploded([{"epoch": i, "validation_loss": loss} for i, loss in enumerate(losses)], balance) is ends


def test_an_explosion_ends_the_training_with_the_best_weights(world, monkeypatch):
    losses = iter([5.0, 3.0, 1e5, 1.0])
    monkeypatch.setattr("downscale.training.loop.evaluate", lambda *a: {"validation_loss": next(losses), "rmse_tas": 1.0, "rmse_pr": 1.0})
    state = run(world, new_state(world, Settings(epochs=50, batch_size=64, balance="none")))
    assert (state.epoch, state.best_epoch) == (2, 1)
    assert "exploded in epoch 2" in watch.verdict(state.history, state.best_epoch, "none")[0]


def test_a_constant_estimate_is_seen(world):
    _, _, samples = world
    state = new_state(world, Settings())  # the head starts at zero
    assert watch.constant_targets(state.emulator, samples["validation"]) == ["tas", "pr"]
    torch.nn.init.normal_(state.emulator.net.head.weight)
    assert watch.constant_targets(state.emulator, samples["validation"]) == []


def test_validation_needs_no_gradient(world):
    state = new_state(world, Settings())
    evaluate(state.emulator, world[2]["validation"], make_loss("mse", "none"))
    assert all(value.grad is None for value in state.parameters.values())


# --- checkpoints -------------------------------------------------------------------------------------------------------------


@fault("S03", "two checkpoints are kept; a damaged one is known by its hash, told, and the one before it is taken")
def test_two_checkpoints_are_kept_and_a_damaged_one_falls_back(tmp_path):
    folder = CheckpointFolder(tmp_path)
    assert folder.load() is None
    for k in range(3):
        folder.save(Checkpoint({"w": torch.full((4,), float(k))}, {"k": k}))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert folder.load().facts == {"k": 2}
    newest = tmp_path / "a.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    fallen = folder.load()
    assert fallen.facts == {"k": 1}
    assert fallen.tensors["w"].tolist() == [1.0] * 4
    folder.save(Checkpoint({"w": torch.zeros(4)}, {"k": 3}))
    assert folder.load().facts == {"k": 3}
    for file in tmp_path.glob("*.json"):
        file.write_text("{")
    assert folder.load() is None


@fault("S03", "a kill between the two files of a checkpoint leaves the one before")
def test_a_kill_between_tensors_and_json_falls_back(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    for k in range(2):
        folder.save(Checkpoint({"w": torch.full((4,), float(k))}, {"k": k}))
    monkeypatch.setattr("downscale.training.checkpoint.write_json", lambda path, value: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        folder.save(Checkpoint({"w": torch.full((4,), 2.0)}, {"k": 2}))
    assert folder.load().facts == {"k": 1}


# --- samples -----------------------------------------------------------------------------------------------------------------


def test_samples_of_several_pairs_follow_each_other():
    store = make_store()
    portions = split_portions(store, ["RCM_A/perfect", "RCM_B/imperfect"], "validation")
    samples = load_samples(portions)
    assert len(samples) == 56
    assert samples.labels[0] == "20520101 (RCM_A/perfect)"
    assert samples.labels[-1] == "20521007 (RCM_B/imperfect)"
    assert np.array_equal(samples.inputs.predictors[28:], store.groups["RCM_B"].arrays["imperfect"][portions[1].index])


def test_nan_predictors_are_refused_with_their_days():
    store = make_store()
    store.groups["RCM_A"].arrays["perfect"][2, 0, 1, 1] = np.nan
    with pytest.raises(InputDataError, match="RCM_A/perfect") as error:
        load_samples(split_portions(store, ["RCM_A/perfect"], "train"))
    assert error.value.findings == ["20000103"]


def test_a_predictor_cell_never_valid_is_refused():
    store = make_store()
    store.groups["RCM_A"].arrays["perfect"][:, 1, 0, 0] = np.nan
    statistics = compute_statistics([(store.groups["RCM_A"], "perfect")], {}, store.targets, store.scalars)
    with pytest.raises(InputDataError, match="predictor zg500 has 1 coarse cell"):
        load_statistics(build(spec_of(store)), statistics)


def test_days_that_do_not_fit_into_memory_are_refused():
    check_memory(79, "", lambda: 100)
    with pytest.raises(DownscaleError, match="memory"):
        check_memory(81, "", lambda: 100)


def test_the_way_to_the_fine_grid_interpolates():
    store = make_store()
    index, weight = way_to_fine(store)
    assert torch.allclose(weight.sum(1), torch.ones(80))
    latitude = torch.from_numpy(store.coarse.lat.ravel())[index]
    inside = np.abs(store.fine.lat.ravel() - 42) < 1.5
    assert np.allclose((latitude * weight).sum(1).numpy()[inside], store.fine.lat.ravel()[inside], atol=1e-5)


# --- few-shot years ------------------------------------------------------------------------------------------------------------


def test_years_are_spread_evenly_and_shared_by_the_periods():
    days = days_of([*range(1981, 1999), *range(2081, 2099)])
    assert choose_years(days, 2) == [1990, 2090]
    assert choose_years(days, 1) == [1990]
    assert choose_years(days, 4) == [1985, 1994, 2085, 2094]
    assert choose_years(days, 3) == [1985, 1994, 2090]
    assert choose_years(days, 36) == [*range(1981, 1999), *range(2081, 2099)]


def test_broken_years_are_not_chosen():
    days = np.concatenate([days_of([2000]), days_of([2001])[:10], days_of([2002])])
    assert choose_years(days, 2) == [2000, 2002]
    with pytest.raises(ConfigError, match="3 whole years wanted, the training days hold 2"):
        choose_years(days, 3)


def test_winters_stay_whole():
    days = np.concatenate([days_of([1999], (12,)), days_of([2000], (1, 12)), days_of([2001], (1, 12))])
    assert choose_years(days, 1, 12) == [2001]
    learn, held_back = shot_index(days, np.arange(len(days)), [2001], 12)
    assert set(days[np.concatenate([learn, held_back])] // 100) == {200012, 200101}


def test_the_last_fifth_of_the_shots_chooses_the_epoch():
    group = make_group()
    learn, held_back = shot_index(group.days, group.splits["train"], [2001, 2050])
    assert len(held_back) == round(0.2 * 56)
    assert group.days[learn].max() < group.days[held_back].min()
    assert set(group.days[np.concatenate([learn, held_back])] // 10000) == {2001, 2050}
    assert isinstance(Portion(group, "perfect", learn).days, np.ndarray)
