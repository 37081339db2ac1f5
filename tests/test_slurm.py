"""Jobs under a real SLURM: the whole chain, signals, time limits, a failing task, preemption, Dask, several processes and nodes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import EXPERIMENT, run_cli
from faults import fault
from safetensors.torch import load_file
from slurm_world import running_slurm

from downscale.hpc import jobs

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
HPC = """\
hpc:
  warning_seconds: 20
  jobs:
    prepare: {cpus: 1, time: "00:10:00", memory: 2GB}
    train: {cpus: 1, time: "00:10:00", memory: 2GB}
    apply: {cpus: 1, time: "00:10:00", memory: 2GB}
    evaluate: {cpus: 1, time: "00:10:00", memory: 2GB}
"""
SHORT = ("--set", "train.baselines=[bilinear]", "--set", "apply.days=test")
LONG = ("--set", "train.baselines=[]", "--set", "train.epochs=30", "--set", "train.patience=30")


@pytest.fixture(scope="module")
def slurm():
    with running_slurm() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def base(slurm, tiny_world, tmp_path_factory) -> Path:
    """A config with pairs in its workspace."""
    geometry = json.loads((tiny_world / "truth.json").read_text())["geometry"]
    folder = tmp_path_factory.mktemp("jobs")
    boxes = {"coarse": geometry["coarse_box_edges"], "fine": 2 * geometry["target_cells"], "relaxation": geometry["relaxation_cells"]}
    config = folder / "config.yaml"
    config.write_text(EXPERIMENT.format(data=tiny_world, **boxes) + HPC)
    ok("prepare", config)
    return config


@pytest.fixture
def config(base, tmp_path) -> Path:
    """The same in a folder with a difficult name."""
    folder = tmp_path / "it's ü $HOME `ls` *"
    shutil.copytree(base.parent, folder, ignore=shutil.ignore_patterns("runs"))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def whole(base) -> dict:
    """Weights of an uninterrupted long training."""
    ok("train", base, *LONG)
    return weights(base)


def ok(*arguments):
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    return result


def weights(config: Path) -> dict:
    return load_file(config.parent / "results" / "runs" / "resunet-RCM_A-perfect" / "model.safetensors")


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(value.numpy().tobytes() == two[name].numpy().tobytes() for name, value in one.items())


def status(config: Path) -> dict[str, str]:
    """Job -> how it stands."""
    lines = jobs.job_lines((config.parent / "results").absolute())
    return {line.partition(" (")[0].partition("/")[2]: line.partition("): ")[2] or line for line in lines}


def told(config: Path) -> str:
    logs = sorted((config.parent / "results" / "slurm" / "logs").glob("*"))
    queue = subprocess.run(["squeue", "--states=all"], capture_output=True, text=True, check=False).stdout
    return "\n".join([str(status(config)), queue, *(f"== {path.name}\n{path.read_text()[-3000:]}" for path in logs)])


def until(config: Path, what, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, told(config)
        time.sleep(0.3)


def ended(config: Path) -> dict[str, str]:
    """Wait until SLURM has no job of the workspace; jobs that went back to the queue wait three seconds only.

    Not less: SLURM revokes the credential of a job that it sends back to the second, and a new start in that second fails.
    """
    seen: dict[str, float] = {}

    def idle() -> bool:
        left = jobs.unfinished((config.parent / "results").absolute())
        for job in left:
            if not sent_back(job):
                seen.pop(job, None)
            elif time.monotonic() - seen.setdefault(job, time.monotonic()) > 3.0:
                subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, check=False)
        return not left

    until(config, idle)
    return status(config)


def sent_back(job: str) -> bool:
    """Whether a job is back in the queue, where it waits two minutes if nobody says otherwise."""
    said = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True, check=False).stdout
    return "Reason=BeginTime" in said


def log_of(config: Path, key: str) -> str:
    return "".join(path.read_text() for path in sorted((config.parent / "results" / "slurm" / "logs").glob(f"*-{key}.*")))


def submitted(config: Path, *arguments: str) -> list[str]:
    """Submit; the numbers of the jobs."""
    ok("submit", config, *arguments)
    chain = sorted((config.parent / "results" / "slurm").glob("0*"))[-1]
    return [job["job"] for job in json.loads((chain / "chain.json").read_text())["jobs"]]


def test_the_whole_chain_ends_in_a_report(config):
    """From nothing: parts of prepare, two jobs that share the predictions, and a job after each that verifies."""
    shutil.rmtree(config.parent / "results")
    share = ("--set", "hpc.jobs.prepare.array=2", "--set", "hpc.jobs.apply.array=2")
    submitted(config, "prepare", "train", "apply", "evaluate", *SHORT, *share)
    found = ended(config)
    assert list(found) == ["01-prepare-parts", "02-prepare-merge", "03-train", "04-apply-shares", "05-apply-verify", "06-evaluate"]
    assert all(line.startswith(("done", "2 done")) for line in found.values()), told(config)
    results = config.parent / "results"
    assert (results / "report" / "index.html").exists() and (results / "scores" / "scores.csv").exists()
    assert len(list(results.glob("predictions/*/*/prediction.json"))) == 8
    assert log_of(config, "05-apply-verify").count("complete already") == 8
    submitted(config, "train", "apply", *SHORT)
    ok("status", config)
    assert all(line.startswith("done") for line in ended(config).values()), told(config)


@fault("S05", "a training that SLURM sent back to the queue ends with the same weights")
def test_a_training_told_to_stop_goes_on_and_ends_the_same(config, whole):
    (job,) = submitted(config, "train", *LONG)
    until(config, lambda: "validation days, on" in log_of(config, "01-train"))
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    assert ended(config)["01-train"].endswith("continued 1 time"), told(config)
    said = log_of(config, "01-train")
    assert "stopped by SIGUSR1" in said and "going on after epoch" in said
    assert same(weights(config), whole)


@fault("S04", "a training that another job drives off its node goes on by itself and ends with the same weights")
def test_a_preempted_training_goes_on_by_itself(config, whole):
    submitted(config, "train", *LONG, "--set", "hpc.jobs.train.partition=shared")
    until(config, lambda: "validation days, on" in log_of(config, "01-train"))
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true"]
    subprocess.run(urgent, check=True, capture_output=True)
    assert ended(config)["01-train"].endswith("continued 1 time"), told(config)
    said = log_of(config, "01-train")
    assert "stopped by SIGTERM" in said and "going on after epoch" in said
    assert same(weights(config), whole)


@fault("S07", "a job that is too short goes on by itself, in the queue or as another job, and ends with the same weights")
@pytest.mark.parametrize("requeue", ["true", "false"])
def test_too_little_time_is_made_up_for(config, whole, requeue):
    """The first job ends a minute and two seconds after it has begun, with a minute to keep free; those that wait for it go on waiting."""
    first, _ = submitted(
        config,
        "train",
        "apply",
        *LONG,
        *SHORT[2:],
        *("--set", f"hpc.requeue={requeue}"),
        *("--set", "hpc.environment.lines=['[ $restarts -gt 0 ] || export SLURM_JOB_END_TIME=$(($(date +%s) + 62))']"),
    )
    found = ended(config)
    assert found["01-train"].startswith("done") and found["01-train"].endswith("continued 1 time"), told(config)
    assert "the end of the job" in log_of(config, "01-train")
    assert found["02-apply"].startswith("done"), told(config)
    numbers = {path.name.split(".")[1] for path in (config.parent / "results" / "slurm" / "logs").glob("*-01-train.*")}
    assert numbers == {first} if requeue == "true" else len(numbers) == 2
    assert same(weights(config), whole)


def test_a_failing_task_stops_the_chain_and_status_says_why(config):
    runs = config.parent / "results" / "runs"
    runs.mkdir(exist_ok=True)
    (runs / "resunet-RCM_A-perfect-seed2").write_text("in the way")
    submitted(config, "train", "apply", "--set", "train.seeds=[0, 1, 2]", "--set", "train.baselines=[]", "--set", "train.epochs=1")
    found = ended(config)
    assert found["01-train-first"].startswith("done"), told(config)
    assert found["02-train-seeds"].startswith("1 done, 1 failed; ") and "exit code" in found["02-train-seeds"], told(config)
    assert ".log)" in found["02-train-seeds"]
    assert found["03-train-verify"] == "not run: 02-train-seeds did not succeed"
    assert found["04-apply"] == "not run: 03-train-verify did not succeed"


def test_gpus_that_this_slurm_has_not(config):
    """The generic site promises GPUs; SLURM refuses the second job, and the first one is taken back."""
    result = run_cli("submit", config, "prepare", "train", "--set", "hpc.jobs.train.gpus=1", "--no-estimate")
    assert result.exit_code == 5 and len(result.stderr.strip().splitlines()) == 3, result.output
    assert "SLURM refused the job: Invalid generic resource (gres) specification" in result.stderr
    assert not jobs.unfinished((config.parent / "results").absolute()), told(config)


def test_a_cancelled_chain_does_not_go_on(config):
    first, after = submitted(config, "train", "apply", *LONG, "--set", "train.epochs=3000")
    until(config, lambda: "validation days, on" in log_of(config, "01-train"))
    assert f"{after}, {first}" in ok("cancel", config).output
    found = ended(config)
    assert found["01-train"].startswith("stopped: everything is saved"), told(config)
    assert found["02-apply"].startswith("not run"), told(config)
    assert "stopped by SIGTERM" in log_of(config, "01-train")


def test_dask_in_a_job_with_a_worker_that_dies(config, base):
    """On two nodes; the store is that of one process."""
    shutil.rmtree(config.parent / "results")
    submitted(config, "prepare", "--dask", "2", "--set", "hpc.jobs.prepare.nodes=2")

    def registered() -> bool:
        return log_of(config, "01-prepare").count("Registered to:") == 2

    until(config, registered)
    os.kill(min(_workers(config)), signal.SIGKILL)
    assert ended(config)["01-prepare"].startswith("done"), told(config)
    for group in ("RCM_A", "RCM_B"):
        one, two = (json.loads((path.parent / "results" / "pairs.zarr" / group / "zarr.json").read_text()) for path in (base, config))
        assert one["attributes"]["digest"] == two["attributes"]["digest"]
    until(config, lambda: not _workers(config))


def _workers(config: Path) -> list[int]:
    return _pythons("distributed.cli.dask_worker", config)


def _pythons(word: str, config: Path) -> list[int]:
    """Processes of Python that work for this workspace, with a word in their command."""
    commands = {int(path.parent.name): _text(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    ours = {pid: command for pid, command in commands.items() if word in command and str(config.parent) in command}
    return [pid for pid, command in ours.items() if command.split("\0")[0].endswith("python")]


def _text(path: Path | str) -> str:
    """Of a file that may go at any time."""
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def crew(config: Path, *arguments: str, nodes: int) -> str:
    """A training of two processes in the queue; its job."""
    processes = f"{{tasks: 2, nodes: {nodes}, cpus: 1, time: '00:10:00', memory: 2GB}}"
    (job,) = submitted(config, "train", "--set", "train.baselines=[]", "--set", f"hpc.jobs.train={processes}", *arguments)
    return job


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_train_one_network(config, base, nodes):
    if not (base.parent / "results" / "runs" / "alone").exists():
        ok("train", base, "--set", "train.baselines=[]", "--name", "alone")
    job = crew(config, nodes=nodes)
    assert ended(config)["01-train"].startswith("done"), told(config)
    assert len(nodes_of(job)) == nodes
    logs = {path.name.split(".", 2)[2] for path in (config.parent / "results" / "slurm" / "logs").glob("*-01-train.*")}
    assert logs == {"log", "rank0.log", "rank1.log"}
    said = log_of(config, "01-train")
    assert "0: " in said and "1: " in said and "process 0 of 2" in said
    alone = load_file(base.parent / "results" / "runs" / "alone" / "model.safetensors")
    for name, value in weights(config).items():
        assert value.nan_to_num().allclose(alone[name].nan_to_num(), rtol=1e-2, atol=1e-3), name


def nodes_of(job: str) -> list[str]:
    """That a job ran on."""
    said = subprocess.run(
        ["squeue", "--states=all", "--noheader", "--jobs", job, "--format=%N"], capture_output=True, text=True, check=True
    )
    names = subprocess.run(["scontrol", "show", "hostnames", said.stdout.strip()], capture_output=True, text=True, check=True)
    return names.stdout.split()


@fault("S06", "a process that dies on one of two nodes ends the job on both within seconds")
def test_a_process_that_dies_on_one_node_ends_the_job_on_both(config):
    crew(config, *LONG, "--set", "train.epochs=3000", nodes=2)
    until(config, lambda: "validation days, on" in log_of(config, "01-train"))
    second = min(pid for pid in _pythons("downscale\0train", config) if "\0SLURM_PROCID=1\0" in _text(f"/proc/{pid}/environ"))
    os.kill(second, signal.SIGKILL)
    died = time.monotonic()
    found = ended(config)["01-train"]
    assert "process 1 has ended (SLURM: Killed)" in found, told(config)
    assert "another process of this training has ended" in log_of(config, "01-train"), told(config)
    assert time.monotonic() - died < 30.0
