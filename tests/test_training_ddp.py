"""Several processes that train one network: what each gets, what they agree on, and how they end together."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ddp_world import Crew  # noqa: E402
from faults import fault  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from downscale.errors import ConfigError, EnvironmentMissingError  # noqa: E402
from downscale.hpc import ranks  # noqa: E402
from downscale.hpc.ranks import Place, first_host, place  # noqa: E402
from downscale.training.distributed import Ranks, _buckets  # noqa: E402

pytestmark = pytest.mark.slow


def run_of(workspace: Path) -> Path:
    (run,) = (workspace / "runs").iterdir()
    return run


def losses(run: Path) -> list[list[float]]:
    """Training and validation loss of each epoch."""
    return [[float(word) for word in line.split(",")[1:3]] for line in (run / "metrics.csv").read_text().splitlines()[2:]]


# --- what does not need processes ---------------------------------------------------------------------------------------------


def test_the_place_is_read_from_torchrun_or_srun(monkeypatch):
    monkeypatch.setattr(ranks, "_known", lambda host: host[0] != "m")
    monkeypatch.setattr(ranks, "node_address", {"m1": "10.0.0.7", "m2": ""}.get)
    assert place({}) == Place()
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
    assert place(torchrun) == Place(3, 4, 1, "n1", 29500)
    assert place({**torchrun, "TORCHELASTIC_USE_AGENT_STORE": "True"}).serving
    assert place({**torchrun, "WORLD_SIZE": "1", "RANK": "0"}) == Place()
    srun = {
        "SLURM_PROCID": "2",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NODELIST": "n[07-08]",
        "SLURM_JOB_ID": "123",
    }
    assert place(srun) == Place(2, 4, 0, "n07", 20123)
    assert place({**srun, "SLURM_STEP_NUM_NODES": "1"}).host == "localhost"
    assert place({**srun, "SLURM_STEP_NODELIST": "m[1-2]"}).host == "10.0.0.7"  # no name service has the name, SLURM has the address
    assert place({**srun, "SLURM_STEP_NODELIST": "m[2-3]", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.8"}).host == "10.0.0.8"  # or srun
    assert place({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "123"}) == Place()  # the batch script itself
    with pytest.raises(ConfigError, match="MASTER_ADDR") as error:
        place({"RANK": "0", "WORLD_SIZE": "2"})
    assert error.value.code == 2
    with pytest.raises(EnvironmentMissingError, match="address of node m2") as error:
        place({**srun, "SLURM_STEP_NODELIST": "m2,m3"})
    assert error.value.code == 5 and len(error.value.lines()) == 3


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("n1", "n1"), ("n1,n2", "n1"), ("n[07-09,12],m3", "n07"), ("n[3,5]", "n3"), ("a,n[1-2]", "a"), ("r[1-2]n[3,4]", "r1n3")],
)
def test_the_first_host_of_a_node_list(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("days", [1, 2, 3, 5, 8, 33])
@pytest.mark.parametrize("wanted", [1, 3])
def test_shares_hold_each_day_once_and_never_less_than_two(world, days, wanted):
    index, counted = torch.arange(100, 100 + days), []
    weights = set()
    for rank in range(world):
        ranks = Ranks(rank, world)
        share, parts = ranks.share(index), ranks.parts(days, wanted)
        pieces = [share[span] for span, _, _ in parts]
        assert torch.equal(torch.cat(pieces), share) and all(len(piece) >= 2 for piece in pieces)
        counted += [int(day) for piece, (_, real, _) in zip(pieces, parts, strict=True) for day in piece[:real]]
        weights.add(tuple(weight for _, _, weight in parts))
    assert sorted(counted) == index.tolist()
    assert len(weights) == 1 and sum(weights.pop()) == pytest.approx(1.0)


def test_alone_nothing_is_changed():
    ranks, value = Ranks(), torch.ones(3, requires_grad=True)
    assert ranks.any(True) and not ranks.any(False)
    assert ranks.total(value) is value and ranks.gather({"a": value}) == [{"a": value}]
    assert ranks.parts(16, 1) == [(slice(0, 16), 16, 1.0)]


def test_gradients_travel_in_few_messages(monkeypatch):
    monkeypatch.setattr("downscale.training.distributed._BUCKET", 10)
    tensors = [torch.zeros(n) for n in (4, 5, 3, 20, 1)]
    assert [[one.numel() for one in bucket] for bucket in _buckets(tensors)] == [[4, 5], [3], [20], [1]]


# --- processes ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run that one process makes."""
    workspace = tmp_path_factory.mktemp("alone")
    crew = Crew(workspace, 1)
    assert crew.end() == [0], crew.said(0)
    return run_of(workspace)


def test_two_processes_train_what_one_does(alone, tmp_path):
    """168 days in batches of 48, the last of 24, in shares of 24 and 12; the run is that of one process up to rounding."""
    crew = Crew(tmp_path, 2)
    assert crew.end() == [0, 0], crew.said(0) + crew.said(1)
    run = run_of(tmp_path)
    assert (run / "DONE").exists() and [path.name for path in (run / "state").iterdir()] == ["recipe.json"]
    for one, two in zip(losses(alone), losses(run), strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    first, second = (load_file(path / "model.safetensors") for path in (alone, run))
    for name, value in first.items():
        assert torch.allclose(value.nan_to_num(), second[name].nan_to_num(), rtol=1e-2, atol=1e-4), name
    assert not (alone / "log-all.txt").exists()
    own, other = ((run / name).read_text().splitlines() for name in ("log.txt", "log-1.txt"))
    merged = (run / "log-all.txt").read_text().splitlines()
    assert other and [line[3:] for line in merged if line.startswith("0: ")] == own
    assert [line[3:] for line in merged if line.startswith("1: ")] == other and len(merged) == len(own) + len(other)
    assert [line[3:26] for line in merged] == sorted(line[3:26] for line in merged)
    cards = [json.loads((path / "model.json").read_text()) for path in (alone, run)]
    assert cards[0]["recipe"] == cards[1]["recipe"]


def test_batch_norm_and_parts_work_with_a_small_last_batch(tmp_path):
    """168 days in batches of 55: the last has three, one process has one of them and gets another beside it."""
    crew = Crew(tmp_path, 2, model={"name": "unet_doury"}, epochs=1, batch_size=55, accumulate=2)
    assert crew.end() == [0, 0], crew.said(0) + crew.said(1)
    assert (run_of(tmp_path) / "DONE").exists()


@fault("S05", "the training goes on with the same batches, whatever the number")
@fault("S06", "a signal to one process: all finish the step, save and exit 75")
def test_a_signal_to_one_stops_all_and_another_number_goes_on(alone, tmp_path):
    crew = Crew(tmp_path, 2, how="slow")
    crew.after(6)  # into the second epoch
    os.kill(crew.processes[1].pid, signal.SIGTERM)
    assert crew.end() == [75, 75], crew.said(0) + crew.said(1)
    assert "SIGTERM" in crew.said(1) and "another process" in crew.said(0)
    assert not (run_of(tmp_path) / "DONE").exists()
    crew = Crew(tmp_path, 1)
    assert crew.end() == [0], crew.said(0)
    assert "began with 2 process(es) and goes on with 1" in (run_of(tmp_path) / "log.txt").read_text()
    for one, two in zip(losses(alone), losses(run_of(tmp_path)), strict=True):
        assert two == pytest.approx(one, rel=1e-4)


@fault("S06", "an error or a SIGKILL in one process: the others end soon and with an error; the run can go on")
@pytest.mark.parametrize("how", ["fail", "kill"])
def test_the_end_of_one_is_the_end_of_all(tmp_path, how):
    """An error or a SIGKILL in one process: the other ends soon and with an error, and the run can go on."""
    crew = Crew(tmp_path, 2, how="fail" if how == "fail" else "slow")
    if how == "kill":
        crew.after(2)
        crew.processes[1].kill()
    codes = crew.end(seconds=90)
    assert codes == ([1, 1] if how == "fail" else [1, -9]), crew.said(0) + crew.said(1)
    assert "another process of this training has ended" in crew.said(0)
    assert not (run_of(tmp_path) / "DONE").exists()


@fault("S06", "a process that dies before all have met: the others hear a signal while they wait, and exit 75")
def test_a_signal_is_heard_while_a_process_waits_for_the_others(tmp_path):
    crew = Crew(tmp_path, 2, how="alone")
    deadline = time.monotonic() + 60
    while "waits" not in crew.said(0):
        assert time.monotonic() < deadline, crew.said(0)
        time.sleep(0.05)
    time.sleep(1.0)
    os.kill(crew.processes[0].pid, signal.SIGTERM)
    assert crew.end(seconds=90) == [75, 3], crew.said(0)
    assert "stopped by SIGTERM before the first step" in crew.said(0)
