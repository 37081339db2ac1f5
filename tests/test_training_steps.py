"""The step itself: guarded and fused, in parts, in low precision; the end of the job; a kill at any step; several seeds."""

from __future__ import annotations

import math
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ddp_world import Crew  # noqa: E402
from faults import fault  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_training_fit import Flag, new_state, run, weights, world  # noqa: E402, F401
from training_world import make_config, make_store  # noqa: E402

from downscale.config.schema import TrainConfig  # noqa: E402
from downscale.errors import EnvironmentMissingError  # noqa: E402
from downscale.hpc.signals import StopFlag  # noqa: E402
from downscale.hpc.walltime import job_end  # noqa: E402
from downscale.training import loop, modes, precision  # noqa: E402
from downscale.training.distributed import ALONE  # noqa: E402
from downscale.training.optimiser import gradient_norm, guarded_step, make_optimiser, put_moments  # noqa: E402
from downscale.training.state import Settings, State  # noqa: E402

# --- the optimiser ---------------------------------------------------------------------------------------------------------------


def one_parameter(gradient, name="adamw", **options):
    """A weight [1, 1] with a gradient and its optimiser, learning rate 0.1."""
    value = torch.nn.Parameter(torch.ones(2))
    value.grad = torch.tensor(gradient)
    return value, make_optimiser(name, [value], rate=0.1, **{"decay": 0.0, **options})


def test_a_step_by_hand():
    """The first step of Adam moves each weight by the rate, against the sign of its gradient; decay 0.5 takes a twentieth first."""
    for name, decay, wanted in (("adamw", 0.0, [0.9, 1.1]), ("adamw", 0.5, [0.85, 1.05]), ("adam", 0.0, [0.9, 1.1])):
        value, optimiser = one_parameter([3.0, -4.0], name, decay=decay)
        norm = gradient_norm([value])
        assert float(norm) == 5.0
        assert bool(guarded_step(optimiser, torch.tensor(1.0), norm, 0.0))
        assert value.tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("clip", "wanted"), [(0.0, [3.0, -4.0]), (10.0, [3.0, -4.0]), (1.0, [0.6, -0.8])])
def test_clipping_scales_the_gradient(clip, wanted):
    """The first moment is a tenth of the gradient that counts."""
    value, optimiser = one_parameter([3.0, -4.0])
    guarded_step(optimiser, torch.tensor(1.0), gradient_norm([value]), clip)
    assert (10 * optimiser.state[value]["exp_avg"]).tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "gradient"), [(math.nan, [1.0, 1.0]), (math.inf, [1.0, 1.0]), (1.0, [math.nan, 1.0]), (1.0, [1.0, math.inf])]
)
def test_a_bad_step_changes_nothing(loss, gradient):
    value, optimiser = one_parameter([1.0, 2.0])
    guarded_step(optimiser, torch.tensor(1.0), gradient_norm([value]), 1.0)
    before = [value.detach().clone(), *(one.clone() for one in optimiser.state[value].values())]
    value.grad = torch.tensor(gradient)
    assert not bool(guarded_step(optimiser, torch.tensor(loss), gradient_norm([value]), 1.0))
    for one, two in zip(before, [value.detach(), *optimiser.state[value].values()], strict=True):
        assert torch.equal(one, two)


def test_moments_come_back_in_the_memory_format_of_their_weight():
    """The fused kernel walks through memory: the same numbers in another order would be other moments."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = make_optimiser("adamw", [conv.weight], rate=0.1, decay=0.0)
    stored = {"exp_avg": torch.randn(4, 3, 3, 3), "exp_avg_sq": torch.rand(4, 3, 3, 3), "step": torch.tensor(3.0)}
    put_moments(optimiser, conv.weight, stored)
    for key in ("exp_avg", "exp_avg_sq"):
        assert optimiser.state[conv.weight][key].stride() == conv.weight.stride()
        assert torch.equal(optimiser.state[conv.weight][key], stored[key])


def apart(first, second):
    """Distance between the weights of two trainings."""
    pairs = zip(first.parameters.values(), second.parameters.values(), strict=True)
    return math.sqrt(sum(float((one - two).detach().square().sum()) for one, two in pairs))


def test_the_fused_step_is_the_plain_one_up_to_rounding(world):  # noqa: F811
    """A training against the textbook loop: AdamW, clip_grad_norm_, the same batches."""
    settings = Settings(epochs=2, batch_size=16, learning_rate=3e-3, balance="none")
    state, other = new_state(world, settings), new_state(world, settings)
    plain = torch.optim.AdamW(other.parameters.values(), lr=1.0, weight_decay=settings.weight_decay, foreach=False)
    days = world[2]["train"]
    other.emulator.train()
    for other.epoch in range(settings.epochs):
        batches = other.batches(days.order)
        for inputs, truth in days.epoch(batches, torch.device("cpu")):
            other.set_learning_rate(len(batches))
            plain.param_groups[0]["lr"] = other.learning_rate
            plain.zero_grad()
            other.loss.combine(*other.loss.totals(other.emulator, inputs, truth)).backward()
            torch.nn.utils.clip_grad_norm_(other.parameters.values(), settings.clip)
            plain.step()
            other.steps_done += 1
    run(world, state)
    state.restore_best()
    assert state.best_epoch == 2
    assert apart(state, other) < 1e-2 * apart(state, new_state(world, settings))


# --- parts and augmentation ------------------------------------------------------------------------------------------------------


def test_a_batch_in_parts_is_the_whole_batch_up_to_rounding(world):  # noqa: F811
    """With equal parts, as many valid cells in each, and a loss that is a mean."""
    states = [new_state(world, Settings(epochs=1, batch_size=24, learning_rate=3e-3, balance="none", accumulate=n)) for n in (1, 4)]
    for state in states:
        run(world, state)
    assert states[0].history[1]["train_loss"] == pytest.approx(states[1].history[1]["train_loss"], rel=1e-5)
    assert apart(*states) < 1e-2 * apart(states[0], new_state(world, Settings()))


def test_augmentation_sees_training_batches_only(world):  # noqa: F811
    seen = []

    def augment(inputs):
        seen.append((len(inputs), torch.is_grad_enabled()))
        return inputs

    state, (_, _, samples) = new_state(world, Settings(epochs=1, batch_size=48)), world
    nothing = {"save": lambda state, now: None, "epoch_end": lambda epoch, row: None}
    loop.fit(state, samples["train"], samples["validation"], stop=Flag(), augment=augment, **nothing)
    assert seen == [(48, True), (48, True), (48, True), (24, True)]


def test_only_trainable_weights_move(world):  # noqa: F811
    state = new_state(world, Settings())
    names = [name for name in state.parameters if "head" in name]
    state = State(state.emulator, Settings(batch_size=16), trainable=names)
    before = weights(state)
    assert not list(loop._epoch(state, world[2]["train"], Flag(), None, ALONE))
    moved = {name for name, value in weights(state).items() if not torch.equal(value.nan_to_num(), before[name].nan_to_num())}
    assert moved and moved <= set(names)
    assert {name.split(".", 1)[1].rsplit(".", 1)[0] for name in state.checkpoint().tensors if name.startswith("optimiser")} == set(names)


# --- losses that wait on a device --------------------------------------------------------------------------------------------------


def test_losses_that_wait_are_counted_later_and_alike(world, monkeypatch):  # noqa: F811
    """As on a GPU: the step asks nothing; the figures and the weights are those of the training that looks at once."""
    settings = Settings(epochs=2, batch_size=16, ema=0.9)
    whole = run(world, new_state(world, settings))
    calls, plain = [], loop._settle
    monkeypatch.setattr(loop, "_settle", lambda state, train, waiting: (calls.append(len(waiting)), plain(state, train, waiting)))
    monkeypatch.setattr(loop, "_every", lambda device: 4)
    late = run(world, new_state(world, settings))
    assert calls == [4, 4, 3] * 2
    assert [row["train_loss"] for row in late.history[1:]] == [row["train_loss"] for row in whole.history[1:]]
    assert all(torch.equal(value.nan_to_num(), weights(late)[name].nan_to_num()) for name, value in weights(whole).items())


# --- precision -----------------------------------------------------------------------------------------------------------------------


@fault("S15", "`train.precision: bf16` on a GPU without it: exit 5")
def test_the_precision_follows_the_device(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert precision.choose("auto", cpu) == precision.Precision(torch.float32, channels_last=True)
    assert precision.choose("bf16", cpu).dtype == torch.bfloat16
    monkeypatch.setattr(precision, "_has_bf16", lambda device: True)
    assert str(precision.choose("auto", cuda)) == "bfloat16, channels last"
    monkeypatch.setattr(precision, "_has_bf16", lambda device: False)
    assert precision.choose("auto", cuda).dtype == torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "V100")
    with pytest.raises(EnvironmentMissingError, match="no bfloat16") as error:
        precision.choose("bf16", cuda)
    assert error.value.code == 5
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(EnvironmentMissingError, match="C\\+\\+ compiler"):
        precision.choose("auto", cpu, compiled=True)


def test_bf16_is_for_the_network_alone(world):  # noqa: F811
    """Scaling, ridge and loss stay in float32; afterwards the network is as before."""
    state, inputs = new_state(world, Settings(), backbone="none"), world[2]["train"].samples.inputs[:4]
    torch.nn.init.normal_(state.emulator.net.head.weight)
    state.emulator.eval()
    exact = state.emulator.transformed(inputs)
    with precision.computed(state.emulator, precision.choose("bf16", torch.device("cpu"))):
        low = state.emulator.transformed(inputs)
    assert low.dtype == torch.float32
    assert 1e-6 < float((low - exact).detach().abs().max()) < 0.05 * float(exact.detach().abs().max())
    assert torch.equal(state.emulator.transformed(inputs), exact)


@pytest.mark.gpu
@pytest.mark.parametrize("backbone", ["none", "ridge"])
def test_the_losses_of_the_first_steps_are_those_of_the_cpu(world, backbone):  # noqa: F811
    """Loss and norm of the gradient of two steps in float32, to 1e-4."""
    found = {}
    for name in ("cpu", "cuda"):
        device, state = torch.device(name), new_state(world, Settings(precision="float32"), backbone=backbone)
        state.emulator.to(device).train()
        batch = next(iter(world[2]["train"].epoch([torch.arange(8)], device)))
        with precision.computed(state.emulator, precision.choose("float32", device)):
            found[name] = [loop._step(state, batch, 8, None, ALONE).tolist() for _ in range(2)]
    for one, other in zip(found["cpu"], found["cuda"], strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_channels_last_and_compiling_change_no_value_and_no_name(world, monkeypatch):  # noqa: F811
    """Compiled by a back end that only records the network: making kernels takes a minute."""
    state, inputs = new_state(world, Settings()), world[2]["train"].samples.inputs[:4]
    plain, used = torch.nn.Module.compile, []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: (used.append(1), plain(net, backend="eager"))[1])
    names, exact = list(state.emulator.state_dict()), state.emulator.eval().transformed(inputs)
    with precision.computed(state.emulator, precision.Precision(channels_last=True, compiled=True)):
        assert torch.allclose(state.emulator.transformed(inputs), exact, atol=1e-5)
        assert list(state.emulator.state_dict()) == names and used == [1]
    assert state.emulator.net._compiled_call_impl is None


# --- presets, seeds --------------------------------------------------------------------------------------------------------------------


def test_the_doury_preset_fills_in_what_is_not_given():
    train = TrainConfig(on=["A/perfect"], preset="doury", epochs=7)
    assert (train.optimiser, train.learning_rate, train.batch_size, train.schedule, train.clip) == ("adam", 5e-3, 32, "plateau", 0.0)
    assert (train.epochs, train.patience, train.weight_decay) == (7, 15, 0.0)
    assert TrainConfig.model_validate(train.model_dump()) == train
    with pytest.raises(ValueError, match="a seed twice"):
        TrainConfig(on=["A/perfect"], seeds=[1, 1])


def test_several_seeds_are_several_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: make_store()))
    config = make_config(
        tmp_path, model={"backbone": "none", "width": 4}, train={"epochs": 1, "batch_size": 64, "seeds": [0, 3], "baselines": []}
    )
    summary = modes.train_run(config, device="cpu")
    assert list(summary["runs"]) == ["resunet-RCM_A-perfect", "resunet-RCM_A-perfect-seed3"]
    assert summary["artefact"] == tmp_path / "runs"
    one, other = (load_file(tmp_path / "runs" / name / "model.safetensors")["net.stem.weight"] for name in summary["runs"])
    assert not torch.equal(one, other)
    again = modes.train_run(config, device="cpu")
    assert all("complete" in words for words in again["runs"].values())
    assert modes.train_run(config, device="cpu", seed=3)["artefact"].name.endswith("-seed3")
    assert list(modes.train_run(config, device="cpu", name="net", dry_run=True)["runs"]) == ["net-seed0", "net-seed3"]


# --- the end of the job, and kills -----------------------------------------------------------------------------------------------------


@fault("S07", "the end of the job is read from SLURM")
def test_the_end_of_a_job_is_known_from_slurm(tmp_path, monkeypatch):
    for name in ("SLURM_JOB_END_TIME", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert job_end() is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert job_end() is None  # no squeue
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\n[ "$3" = 12 ] && echo 2030-01-01T00:00:00\n')
    squeue.chmod(squeue.stat().st_mode | stat.S_IXUSR)
    assert job_end() == time.mktime((2030, 1, 1, 0, 0, 0, 0, 0, 0))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert job_end() is None  # 12 is the whole array
    squeue.write_text('#!/bin/sh\n[ "$3" = 12_3 ] && echo 2030-01-01T00:00:00\n')
    assert job_end() == time.mktime((2030, 1, 1, 0, 0, 0, 0, 0, 0))
    squeue.write_text("#!/bin/sh\necho N/A\n")
    assert job_end() is None
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1900000000")
    assert job_end() == 1.9e9


@fault("S07", "the training saves and exits 75 before it, by `train.margin_seconds` and the time of a step")
def test_the_flag_rises_before_the_end_by_the_margin_and_a_step(monkeypatch):
    clock = {"now": 1000.0}
    monkeypatch.setattr("time.time", lambda: clock["now"])
    monkeypatch.setattr("time.monotonic", lambda: clock["now"])
    flag = StopFlag(end=1100.0, margin=30.0)
    seen = []
    for now in (1000, 1020, 1045):  # 25 s between two looks, 55 left
        clock["now"] = float(now)
        seen.append(flag.set)
    assert seen == [False, False, False] and flag.name == ""
    clock["now"] = 1046.0
    assert flag.set and flag.name == "the end of the job"
    assert not StopFlag().set


@fault("S04", "`kill -9` at a random step: the same command ends in the same weights, bit for bit")
@pytest.mark.parametrize(
    ("train", "model"),
    [({"ema": 0.9, "schedule": "plateau"}, {"name": "unet_doury"}), ({"ema": 0.9, "accumulate": 3, "optimiser": "adam"}, {"dropout": 0.2})],
)
@pytest.mark.slow
def test_a_kill_at_any_step_changes_no_bit(tmp_path, train, model):
    """SIGKILL at a random step of 42, with checkpoints within the epochs; the same command ends in the bits of the uninterrupted run."""
    step = random.SystemRandom().randrange(1, 40)
    train = {**train, "batch_size": 8}
    whole, killed = Crew(tmp_path / "whole", 1, model=model, **train), Crew(tmp_path / "killed", 1, how="slow", model=model, **train)
    killed.after(step, rank=0)
    os.kill(killed.processes[0].pid, signal.SIGKILL)
    assert killed.end() == [-9]
    again = Crew(tmp_path / "killed", 1, model=model, **train)
    assert whole.end() == [0] and again.end() == [0], again.said(0)
    one, two = (load_file(next((tmp_path / name / "runs").iterdir()) / "model.safetensors") for name in ("whole", "killed"))
    assert [name for name in one if not torch.equal(one[name].nan_to_num(), two[name].nan_to_num())] == [], step


BLOCKED = """
import runpy, sys
sys.modules.update(dict.fromkeys(["zarr", "xarray", "netCDF4", "scipy", "pydantic", "safetensors", "dask"]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_gpu_benchmark_runs_where_little_is_installed():
    script = Path(__file__).parent / "benchmarks" / "train_gpu.py"
    sizes = ["--device", "cpu", "--days", "8", "--batch", "4", "--coarse", "4", "--fine", "8", "--channels", "2", "--width", "4", "resunet"]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(script), *sizes], capture_output=True, text=True, env=environment, timeout=120
    )
    assert "'model': 'resunet'" in result.stdout, result.stderr
