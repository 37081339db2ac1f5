"""Runs on several input days, on days read from disk, and on sources with weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from streamed_world import write_store  # noqa: E402
from training_world import make_config, make_store  # noqa: E402

from downscale.apply.feed import GroupFeed  # noqa: E402
from downscale.apply.predict import predict_blocks  # noqa: E402
from downscale.errors import DownscaleError, Stopped  # noqa: E402
from downscale.models import Inputs  # noqa: E402
from downscale.training import days as feeding  # noqa: E402
from downscale.training import modes, samples, stream  # noqa: E402
from downscale.training.assemble import map_names  # noqa: E402
from downscale.training.feed import MemoryDays  # noqa: E402
from downscale.training.run import load_run  # noqa: E402
from downscale.training.stream import StreamedDays  # noqa: E402

CPU = torch.device("cpu")
PLAIN = {"backbone": "none", "dropout": 0.0}


def serve(monkeypatch, store):
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: store))
    return store


@pytest.fixture
def store(monkeypatch):
    return serve(monkeypatch, make_store())


def weights_of(workspace, run="resunet-RCM_A-perfect"):
    return load_file(workspace / "runs" / run / "model.safetensors")


def recipe_of(workspace, run="resunet-RCM_A-perfect"):
    return json.loads((workspace / "runs" / run / "model.json").read_text())["recipe"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name].nan_to_num(), other[name].nan_to_num()) for name in one)


# --- several input days ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def windowed(tmp_path_factory):
    """A run and a ridge that read three days, and one that goes on from it."""
    workspace = tmp_path_factory.mktemp("windowed")
    with pytest.MonkeyPatch.context() as patch:
        serve(patch, make_store())
        cfg = make_config(workspace, model={"days_before": 1, "days_after": 1}, train={"epochs": 1, "baselines": ["ridge", "climatology"]})
        modes.train_run(cfg, device="cpu")
        modes.train_run(cfg, mode="finetune", source_run="resunet-RCM_A-perfect", name="on", device="cpu")
    return workspace / "runs"


def test_all_networks_and_the_ridge_read_the_maps_of_all_days(windowed):
    for name in ("resunet-RCM_A-perfect", "ridge-RCM_A-perfect", "on"):
        run = load_run(windowed / name, device="cpu")
        assert run.spec["days"] == [-1, 0, 1]
        assert map_names(run.spec) == ["tas@-1", "zg500@-1", "tas", "zg500", "tas@+1", "zg500@+1"]
        assert run.emulator.backbone is not None and len(run.emulator.backbone.weight) == 3 * 2 * 4 * 5 + 2
    assert "days" not in load_run(windowed / "climatology-RCM_A-perfect", device="cpu").spec
    plan = json.loads((windowed / "ridge-RCM_A-perfect" / "model.json").read_text())["recipe"]
    assert plan["days"] == [-1, 0, 1]


def test_the_statistics_repeat_for_every_day(windowed):
    transform = load_run(windowed / "resunet-RCM_A-perfect", device="cpu").emulator.inputs
    assert transform.mean.shape == (6, 4, 5)
    assert torch.equal(transform.mean[:2], transform.mean[2:4]) and torch.equal(transform.std[4:], transform.std[:2])


def test_map_moments_repeat_means_first(store, tmp_path):
    cfg = make_config(tmp_path, model={**PLAIN, "days_before": 1}, train={"epochs": 1, "baselines": []}, normalise={"predictors": "map"})
    modes.train_run(cfg, device="cpu")
    mean = load_run(tmp_path / "runs" / "resunet-RCM_A-perfect", device="cpu").emulator.inputs.mean
    assert torch.equal(mean[:2], mean[2:4]) and torch.equal(mean[4:6], mean[6:8])
    assert mean[0] > 200 and mean[4] < 20


def test_a_prediction_reads_the_days_around_and_does_not_depend_on_blocks(windowed):
    run, group = load_run(windowed / "resunet-RCM_A-perfect", device="cpu"), make_store().groups["RCM_A"]
    index = group.split("test")[2:9]
    feed = GroupFeed(group, "perfect", index)
    whole = np.concatenate([fields for _, fields in predict_blocks(run, feed, 100)])
    parts = np.concatenate([fields for _, fields in predict_blocks(run, feed, 2)])
    assert np.array_equal(whole, parts, equal_nan=True)
    maps = group.arrays["perfect"]
    day = index[0]  # the third day of a week: both neighbours are there, the first of them is not emulated
    inputs = Inputs(
        torch.from_numpy(maps[day - 1 : day + 2].reshape(1, 6, 4, 5)),
        torch.from_numpy(group.arrays["scalars"][day : day + 1]),
        torch.full((1, 2, 4, 5), torch.nan),
    )
    with torch.inference_mode():
        alone = run.emulator(inputs).numpy()[0]
    assert np.allclose(alone, whole[0], atol=1e-4, equal_nan=True)


def test_yesterday_helps_where_the_truth_is_of_yesterday(monkeypatch, tmp_path):
    errors = {}
    for before in (0, 1):
        store = serve(monkeypatch, make_store())
        group = store.groups["RCM_A"]
        truth = group.arrays["target"]
        truth[1:] = truth[:-1].copy()
        cfg = make_config(tmp_path / str(before), model={**PLAIN, "days_before": before}, train={"epochs": 1, "baselines": ["ridge"]})
        modes.train_run(cfg, device="cpu")
        run = load_run(tmp_path / str(before) / "runs" / "ridge-RCM_A-perfect", device="cpu")
        index = np.array([day for day in group.split("test") if group.days[day] % 100 > 1])
        fields = np.concatenate([fields for _, fields in predict_blocks(run, GroupFeed(group, "perfect", index), 100)])
        errors[before] = float(np.sqrt(np.nanmean((fields[:, 0] - truth[index, 0]) ** 2)))
    assert errors[1] < 0.5 * errors[0], errors  # not less: the first day of each week has no day before to learn from


# --- days read from disk ------------------------------------------------------------------------------------------------------------------


def test_a_run_on_days_from_disk_has_the_same_weights(monkeypatch, tmp_path):
    store = serve(monkeypatch, write_store(tmp_path / "pairs.zarr", make_store()))
    monkeypatch.setattr(stream, "_spare_cores", lambda: 0)
    found = {}
    for how in ("never", "always"):
        cfg = make_config(tmp_path / how, model=PLAIN, train={"stream": how, "epochs": 1, "baselines": [], "buffer_days": 40})
        modes.train_run(cfg, device="cpu")
        found[how] = weights_of(tmp_path / how)
        assert recipe_of(tmp_path / how)["buffer_days"] == 40
    assert same(found["never"], found["always"])
    plain = make_config(tmp_path / "plain", model=PLAIN, train={"epochs": 1, "baselines": []})
    modes.train_run(plain, device="cpu")
    assert not same(weights_of(tmp_path / "plain"), found["never"])
    assert not {"buffer_days", "weights", "days"} & recipe_of(tmp_path / "plain").keys()
    assert store.path.is_dir()


def test_a_streamed_run_that_was_stopped_goes_on_to_the_same_weights(monkeypatch, tmp_path):
    serve(monkeypatch, write_store(tmp_path / "pairs.zarr", make_store()))
    monkeypatch.setattr(stream, "_spare_cores", lambda: 0)
    options = {"stream": "always", "epochs": 1, "baselines": [], "buffer_days": 40}
    net = {"backbone": "none", "dropout": 0.1}
    modes.train_run(make_config(tmp_path / "whole", model=net, train=options), device="cpu")

    class Late(modes.StopFlag):
        looks = 0

        @property
        def set(self):
            type(self).looks += 1
            return type(self).looks == 5

        name = "SIGTERM"

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(modes, "StopFlag", Late)
        modes.train_run(make_config(tmp_path / "parts", model=net, train=options), device="cpu")
    modes.train_run(make_config(tmp_path / "parts", model=net, train=options), device="cpu")
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))


def plan_of(cfg, store):
    return feeding.with_feeding(cfg.train, store, modes.plan_pretrain(cfg, store, seed=None, name=None))


def test_days_are_streamed_where_they_do_not_fit(store, monkeypatch, tmp_path):
    cfg = make_config(tmp_path)
    plan = plan_of(cfg, store)
    assert plan.feeding == feeding.Feeding(False, 0, {})
    needed = feeding.day_bytes(store, 1) * sum(len(p.index) for p in (*plan.train, *plan.validation))
    one = samples.load_samples(plan.train)
    assert feeding.day_bytes(store, 1) * len(one) == sum(
        part.numel() * 4 for part in (one.inputs.predictors, one.inputs.scalars, one.target)
    )
    monkeypatch.setattr(feeding, "free_memory", lambda: needed)
    monkeypatch.setattr(feeding, "BUFFER_DAYS", 100)
    plan = plan_of(cfg, store)
    assert plan.feeding == feeding.Feeding(True, 100, {}) and plan.recipe["buffer_days"] == 100
    assert isinstance(plan.feeding.open(store, plan.train, samples.EVERYTHING, CPU), StreamedDays)
    assert not plan_of(make_config(tmp_path, train={"stream": "never"}), store).feeding.streamed
    monkeypatch.setattr(samples, "free_memory", lambda: 1000)
    with pytest.raises(DownscaleError, match="memory") as caught:
        samples.load_samples(plan.train)
    assert "train.stream" in caught.value.hint
    with pytest.raises(DownscaleError, match="memory") as caught:
        next(plan.feeding.open(store, plan.train, samples.EVERYTHING, CPU).blocks(64, CPU))
    assert "train.buffer_days" in caught.value.hint


def test_an_unfinished_run_keeps_its_buffer(store, tmp_path):
    cfg = make_config(tmp_path)
    path = plan_of(cfg, store).path
    (path / "state").mkdir(parents=True)
    (path / "state" / "recipe.json").write_text(json.dumps({"buffer_days": 60}))
    plan = plan_of(cfg, store)
    assert plan.feeding == feeding.Feeding(False, 60, {}) and plan.recipe["buffer_days"] == 60
    days = plan.feeding.open(store, plan.train, samples.EVERYTHING, CPU)
    assert isinstance(days, MemoryDays) and days.order.buffer == 60


# --- weights of sources ---------------------------------------------------------------------------------------------------------


def test_a_source_with_a_weight_is_seen_more_often(store, tmp_path):
    on = ["RCM_A/perfect", "RCM_B/perfect"]
    cfg = make_config(tmp_path, model=PLAIN, train={"on": on, "weights": {"RCM_B/perfect": 2.0}, "epochs": 1, "baselines": []})
    plan = plan_of(cfg, store)
    assert plan.recipe["weights"] == {"RCM_B/perfect": 2.0}
    days = plan.feeding.open(store, plan.train, samples.EVERYTHING, CPU)
    seen = [label for batch in days.order.batches(seed=0, epoch=0, size=32) for label in days.labels(batch)]
    assert sum("RCM_B" in label for label in seen) == 2 * sum("RCM_A" in label for label in seen) == 2 * 168
    modes.train_run(cfg, device="cpu")
    assert not plan_of(make_config(tmp_path, train={"on": on, "weights": {"RCM_B/perfect": 1.0}}), store).recipe.keys() & {"weights"}


def test_weights_of_pairs_that_are_not_learned_from_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is not in train"):
        make_config(tmp_path, train={"weights": {"RCM_B/perfect": 2.0}})
    with pytest.raises(ValueError, match="greater than 0"):
        make_config(tmp_path, train={"weights": {"RCM_A/perfect": 0.0}})
