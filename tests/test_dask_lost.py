"""A Dask scheduler that ends while its workers are at work: three lines, or exit 75 where everything was told to end; nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import fault

from downscale.errors import Stopped
from downscale.evaluate.kept import keeping
from downscale.hpc.dask_pool import Pool, WorkersGoneError


@pytest.fixture
def dask(tmp_path):
    """(scheduler's process, its file) with one worker."""
    file = tmp_path / "scheduler.json"
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}}
    command = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen([*command, "scheduler", "--scheduler-file", str(file), "--port", "0", *local], **quiet)
    worker = subprocess.Popen(
        [*command, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", *local, "--local-directory", str(tmp_path)],
        **quiet,
    )
    try:
        until = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < until and scheduler.poll() is None
            time.sleep(0.05)
        yield scheduler, file
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


def work(number: int) -> int:
    time.sleep(0.3)
    return number


@fault(
    "S02", "a Dask scheduler that is killed: exit 1 and three lines; what was done is kept, with another scheduler the same command goes on"
)
def test_a_scheduler_that_is_killed(dask, caplog):
    scheduler, file = dask
    done = []
    with Pool(scheduler=str(file)) as pool, pytest.raises(WorkersGoneError, match="scheduler has ended") as caught:
        for number in pool.run(work, [(number,) for number in range(40)], lambda: False):
            done.append(number)
            scheduler.kill()
    assert 0 < len(done) < 40
    assert caught.value.code == 1 and len(caught.value.lines()) == 3 and json.loads(file.read_text())["address"] in caught.value.where
    assert not [record for record in caplog.records if "Traceback" in record.message]


@fault("S01", "a Dask scheduler that ends because its whole job was told to: exit 75, as without one")
def test_a_scheduler_that_was_told_to_end_with_everything_else(dask):
    scheduler, file = dask
    told: list[float] = []
    with Pool(scheduler=str(file)) as pool:
        done = []
        for number in pool.run(work, [(number,) for number in range(40)], lambda: bool(told) and time.monotonic() > told[0] + 1.0):
            done.append(number)
            if not told:
                scheduler.terminate()
                told.append(time.monotonic())  # this process hears it a second later
    assert 0 < len(done) < 40


@pytest.mark.parametrize("told", [True, False])
def test_evaluate_keeps_its_blocks_when_the_workers_are_gone(tmp_path, told):
    folder = tmp_path / "blocks"
    folder.mkdir()
    (folder / "kept.npz").write_text("a block")

    def spread(work, tasks):
        if told:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        raise WorkersGoneError("the scheduler has ended")
        yield

    with pytest.raises(Stopped if told else WorkersGoneError), keeping(spread, folder, "recipe") as kept:
        list(kept(work, []))
    assert (folder / "kept.npz").exists()
