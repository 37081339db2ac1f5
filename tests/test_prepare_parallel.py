"""prepare with several processes: the same bytes whoever writes them, kills and resumes, schedulers, memory that is said and kept."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from conftest import run_cli
from faults import fault
from prepare_world import bench, gone, noted_config, noted_world, same, small_shards, whole_store  # noqa: F401

from downscale.errors import ConfigError
from downscale.hpc.dask_pool import Shares
from downscale.hpc.room import parse_size
from downscale.pairs import tasks_memory
from downscale.pairs.store import shard_days
from downscale.pairs.tasks_memory import ReadPlan

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path, noted_world):  # noqa: F811
    return noted_config(tmp_path, noted_world)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results" / "pairs.zarr"


def test_two_processes_write_what_one_writes(config, store, bench, whole_store):  # noqa: F811
    result = bench.run("prepare", config, "--workers", 2, slow=0.05)
    assert "2 processes, at most about" in result.stderr and "worker(s), at most" in result.stderr
    same(whole_store, store)
    assert len({pid for *_, pid in bench.told}) == 2
    assert len(bench.told) == len({line[:2] for line in bench.told}) == 24
    gone({pid for *_, pid in bench.told})


def test_what_all_workers_counted_stands_in_the_notes(whole_store):  # noqa: F811
    notes = dict(zarr.open_group(whole_store / "RCM_A", mode="r").attrs)["notes"]
    assert [note for note in notes if "negligible negative" in note] == ["RCM_A: pr: 13 negligible negative values set to 0"]
    assert sum("left out for missing values" in note for note in notes) == 1


def test_a_fault_found_by_a_worker_is_told_as_by_one_process(config, store, bench):  # noqa: F811
    result = bench.run("prepare", config, "--workers", 2, "--set", "missing.nan_days=error", code=4)
    assert "ta850: 4 day(s)" in result.stderr and "Traceback" not in result.stderr
    assert not store.exists()


def test_a_running_scheduler_does_the_work(config, store, bench, whole_store, tmp_path):  # noqa: F811
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": bench.environment(slow=0.02)}
    local = ["--no-dashboard", "--host", "127.0.0.1"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--scheduler-file", str(file), "--port", "0", *local], **quiet)
    worker = subprocess.Popen(
        [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "2", "--no-nanny", *local, "--local-directory", str(tmp_path)],
        **quiet,
    )
    try:
        until = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < until and scheduler.poll() is None
            time.sleep(0.05)
        bench.run("prepare", config, "--scheduler", file)
        address = json.loads(file.read_text())["address"]
        again = bench.run("prepare", config, "--scheduler", address)
        assert "nothing to do" in again.stdout
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
    assert {pid for *_, pid in bench.told} == {str(worker.pid)}
    same(whole_store, store)


def test_a_scheduler_that_is_not_there(config, tmp_path):
    result = run_cli("prepare", config, "--scheduler", str(tmp_path / "none.json"))
    assert result.exit_code == 5 and "neither an address nor an existing file" in result.stderr
    assert not (tmp_path / "results" / "pairs.zarr.partial").exists()


@fault("S12", "`prepare` says beforehand what a process needs, and keeps to `--max-memory`; a limit that cannot hold one shard: exit 2")
def test_memory_is_said_before_and_a_limit_too_small_is_refused(config, store, whole_store):  # noqa: F811
    said = run_cli("prepare", config, "--dry-run")
    assert said.exit_code == 0 and "at most about" in said.stdout
    small = run_cli("prepare", config, "--max-memory", "1MB")
    assert small.exit_code == 2 and "cannot hold one shard" in small.stderr and "give --max-memory" in small.stderr
    wrong = run_cli("prepare", config, "--max-memory", "lots")
    assert wrong.exit_code == 2 and "is not a size" in wrong.stderr
    assert not store.parent.exists()


def test_small_blocks_and_one_open_file_give_the_same(config, store, whole_store, small_shards, monkeypatch):  # noqa: F811
    monkeypatch.setattr("downscale.pairs.tasks_memory.PLANS", (ReadPlan(1, keep_open=False),))
    result = run_cli("prepare", config)
    assert result.exit_code == 0 and "one file open at a time" in result.stdout
    same(whole_store, store)


def test_neither_help_nor_one_process_loads_dask(config):
    code = "import sys\nfrom downscale.cli.app import app\n"
    code += "loaded = lambda: print([m for m in sys.modules if m.split('.')[0] in ('dask', 'distributed')])\n"
    code += "app(['prepare', '--help'], standalone_mode=False); loaded()\n"
    code += "app(['prepare', sys.argv[1], '--workers', '1', '--dry-run'], standalone_mode=False)\n"
    code += "print('distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(config)], capture_output=True, text=True, check=True)
    assert "--scheduler" in done.stdout and "--max-memory" in done.stdout
    assert "[]" in done.stdout.splitlines() and done.stdout.split()[-1] == "False"


def test_neighbouring_tasks_stay_together_and_a_free_worker_takes_half():
    shares = Shares([(number,) for number in range(12)])
    shares.settle(["a", "b"])
    assert [shares.take("a") for _ in range(2)] == [(0,), (1,)]
    taken = [shares.take("b") for _ in range(8)]
    assert taken == [(6,), (7,), (8,), (9,), (10,), (11,), (4,), (5,)]
    shares.settle(["b"])
    assert {shares.take("b") for _ in range(2)} == {(2,), (3,)} and shares.take("b") is None


@pytest.mark.parametrize(("text", "count"), [("2GB", 2e9), ("1.5 GiB", 1.5 * 2**30), ("500m", 5e8), ("4096", 4096)])
def test_sizes(text, count):
    assert parse_size(text, "--max-memory") == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2 elephants", "0"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError):
        parse_size(text, "--max-memory")


def test_shards_of_many_days_keep_within_bytes_and_days():
    assert shard_days(4 * 412 * 424) == (3, 96)
    assert shard_days(4 * 128 * 128) == (32, 1024) and shard_days(4) == (64, 1024)
    assert shard_days(2**30) == (1, 1)


@pytest.mark.parametrize(("input_bytes", "days"), [(2**10, 1024), (2**20, 512), (2**25, 128)])
def test_a_shard_of_much_input_has_fewer_days(monkeypatch, input_bytes, days):
    group = SimpleNamespace(days=np.zeros(5000))
    monkeypatch.setattr(tasks_memory, "array_bytes", lambda inputs, group: {"target": 4 * 64 * 64})
    monkeypatch.setattr(tasks_memory, "input_bytes", lambda group: input_bytes * len(group.days))
    assert tasks_memory.shard_layout(None, group) == (64, days)
