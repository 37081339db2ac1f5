"""Jobs that are stopped, killed, locked out or run out of disk (rows S of the fault table): real signals, limits and processes."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import run_cli
from faults import assert_refused, fault
from prepare_world import bench, gone, noted_config, noted_world, same, small_shards, whole_store  # noqa: F401

from downscale.config.load import load_config
from downscale.errors import InputDataError
from downscale.pairs.store import PairStore

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path, noted_world):  # noqa: F811
    return noted_config(tmp_path, noted_world)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results" / "pairs.zarr"


def only_half(config, store) -> None:
    """Nothing that opens as a store: only the half-written one lies there."""
    assert not store.exists() and store.with_name("pairs.zarr.partial").is_dir()
    with pytest.raises(InputDataError):
        PairStore.open(store, load_config(config).split)
    with pytest.raises((InputDataError, KeyError)):
        assert PairStore.open(store.with_name("pairs.zarr.partial"), load_config(config).split).groups["RCM_A"]


@fault("S01", "`prepare` finishes the shard in work, keeps what is done and exits 75; the same command goes on and gives the same bytes")
def test_signals_stop_at_a_shard_and_nothing_is_done_twice(config, store, bench, whole_store, small_shards):  # noqa: F811
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        process = bench.start("prepare", config, slow=0.1)
        bench.wait_for(len(bench.told) + 1, process)
        code, err = bench.stop(process, number)
        assert code == 75 and f"stopped by {number.name}" in err and "run the same command again" in err
        only_half(config, store)
        assert not (store.parent / ".lock").exists()
    shard = store.with_name("pairs.zarr.partial").joinpath("RCM_A", "predictors_rcmu", "c.0.0.0.0")
    shard.write_bytes(shard.read_bytes()[:100])  # as after a power cut: a record, and a shard that never reached the disk
    (shard.parent / "0.0123.partial").write_bytes(b"left by a writer that was killed")
    done = len(bench.told)
    assert done == len(set(bench.told)), "a finished shard was done again"
    assert run_cli("prepare", config).exit_code == 0
    same(whole_store, store)


@fault("S01", "a second signal ends `prepare` at once")
def test_a_second_signal_does_not_wait(config, bench):  # noqa: F811
    process = bench.start("prepare", config, slow=0.1)
    bench.wait_for(1, process)
    process.send_signal(signal.SIGSTOP)  # both arrive before the shard is finished
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGUSR1)


@fault("S01", "signals that reach the workers too, as a terminal or a batch system sends them, change nothing: exit 75, all processes end")
@fault("S02", "only `pairs.zarr.partial` is left, which does not open as a store; workers end with the command, and the next run goes on")
def test_two_workers_stopped_then_killed_and_gone_on_with_one(config, store, bench, whole_store, small_shards):  # noqa: F811
    process = bench.start("prepare", config, "--workers", 2, slow=0.15)
    bench.wait_for(3, process)
    for pid in bench.workers - {str(process.pid)}:
        os.kill(int(pid), signal.SIGTERM)
    code, err = bench.stop(process, signal.SIGTERM)
    assert code == 75, err
    gone(bench.workers)
    only_half(config, store)
    process = bench.start("prepare", config, "--workers", 2, slow=0.15)
    bench.wait_for(len(bench.told) + 3, process)
    code, _ = bench.stop(process, signal.SIGKILL)
    assert code == -signal.SIGKILL
    gone(bench.workers)
    only_half(config, store)
    assert len(bench.told) == len({line[:2] for line in bench.told}) < 24, "a finished shard was done again"
    done = {line[:2] for line in bench.told}
    records = {path for path in store.with_name("pairs.zarr.partial").glob(".work/*/*.json")}
    assert {(path.parent.name, str(int(path.stem))) for path in records} >= done
    assert run_cli("prepare", config).exit_code == 0
    same(whole_store, store)


@fault("S02", "a worker that is killed, as for want of memory, is told with exit 1; the next run goes on")
def test_a_killed_worker(config, store, bench, whole_store, small_shards):  # noqa: F811
    process = bench.start("prepare", config, "--workers", 2, slow=0.5)
    os.kill(bench.other_process(process), signal.SIGKILL)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "a worker process ended" in err and "run the same command again" in err
    only_half(config, store)
    assert run_cli("prepare", config).exit_code == 0
    same(whole_store, store)


def without_privileges() -> None:
    """Let the rights of files count for root too: no CAP_DAC_OVERRIDE, no CAP_DAC_READ_SEARCH."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))


@fault("S08", "exit 1 with the path and the free space; what was half-written is removed, whole shards stay")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_limit_on_file_sizes(config, store, bench, workers):  # noqa: F811
    result = bench.run("prepare", config, "--workers", workers, code=1, preexec_fn=limited)
    error = result.stderr[result.stderr.index("error: ") :]
    assert "File too large" in error and "GB are free" in error and "pairs.zarr.partial" in error and "run the same command again" in error
    assert "Traceback" not in result.stderr
    assert not store.exists() and not (store.parent / ".lock").exists()
    left = list(store.parent.rglob("*"))
    assert not [path for path in left if path.suffix == ".partial" and path.is_file()]
    assert not left or bench.told, "a store in which nothing was finished stays behind"


@fault("S08", "what cannot fit on the disk is refused before anything is written: exit 1 with the need and the free space")
def test_a_disk_without_room(config, store, monkeypatch):
    monkeypatch.setattr("downscale.hpc.room.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10_000))
    assert_refused(run_cli("prepare", config), "the disk has no room", "are free", str(store.parent), code=1)
    assert not store.exists() and not list(store.parent.iterdir())


@fault("S09", "exit 2 before any input is opened")
def test_a_file_where_the_workspace_would_be(config, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    for workspace in ("thesis.txt", "thesis.txt/deep/results"):
        assert_refused(run_cli("prepare", config, "--set", f"workspace={workspace}"), "cannot be written", "thesis.txt", code=2)
    assert_refused(run_cli("prepare", config, "--set", "workspace=/proc/downscale"), "cannot be written", "/proc", code=2)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@fault("S09", "a folder without the right to write: exit 2 before any input is opened")
def test_a_folder_without_the_right_to_write(config, bench, tmp_path):  # noqa: F811
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    result = bench.run("prepare", config, "--set", "workspace=closed/results", code=2, preexec_fn=without_privileges)
    assert "cannot be written" in result.stderr and "closed" in result.stderr and "catalogued" not in result.stderr
    assert not list(closed.iterdir())


@fault("S09", "a workspace relative to the config, with parents that do not exist, is made there wherever the command is called from")
def test_relative_paths_from_another_folder(config, whole_store, small_shards, tmp_path, monkeypatch):  # noqa: F811
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert run_cli("prepare", os.path.relpath(config), "--set", "workspace=some/deep/results").exit_code == 0
    same(whole_store, tmp_path / "some" / "deep" / "results" / "pairs.zarr")
    assert not list(other.iterdir())


@fault("S10", "the second of two runs exits 3 and names the process, host and job of the first, which is not disturbed")
def test_two_at_once(config, store, bench, whole_store):  # noqa: F811
    process = bench.start("prepare", config, slow=0.15)
    bench.wait_for(1, process)
    assert_refused(run_cli("prepare", config, "--overwrite"), "another process is writing", str(process.pid), "--force-unlock", code=3)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    same(whole_store, store)


def lock(folder: Path, *, host: str, pid: int, age: float) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / ".lock"
    path.write_text(json.dumps({"host": host, "pid": pid, "job": "4711", "since": 1.0}))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@fault("S11", "the lock of a dead process here, or one whose heartbeat stopped elsewhere, is taken over")
@pytest.mark.parametrize("here", [True, False])
def test_a_dead_lock(config, store, here):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = lock(store.parent, host=socket.gethostname() if here else "node17", pid=ended.pid, age=0 if here else 600)
    assert run_cli("prepare", config).exit_code == 0
    assert store.exists() and not path.exists()


@fault("S11", "a lock that still beats on another host is respected: exit 3 with host and job; `--force-unlock` takes it over")
def test_a_lock_on_another_host(config, store):
    lock(store.parent, host="node17", pid=1, age=5)
    assert_refused(run_cli("prepare", config), "node17", "job 4711", "--force-unlock", code=3)
    assert not store.exists()
    assert run_cli("prepare", config, "--force-unlock").exit_code == 0
    assert store.exists()
