"""Stages in a job that is about to end: they stop at a boundary, exit 75, and go on in the next job."""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch")

from apply_world import apply, train  # noqa: E402
from conftest import run_cli  # noqa: E402
from faults import fault  # noqa: E402
from prepare_world import bench, noted_config, noted_world, same, small_shards, whole_store  # noqa: E402, F401

from downscale.errors import Stopped  # noqa: E402

pytestmark = pytest.mark.slow


@fault("S07", "`prepare` stops before it, by a minute and the time of a shard: exit 75, finished shards are kept")
def test_prepare(tmp_path, noted_world, bench, whole_store, small_shards, monkeypatch):  # noqa: F811
    config = noted_config(tmp_path, noted_world)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 180))
    process = bench.start("prepare", config, "--workers", 2, slow=0.5)
    bench.wait_for(2, process)
    process.kill()
    process.wait()
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 55))
    for more in ((), ("--workers", "2"), ("--part", "1/2")):
        result = run_cli("prepare", config, *more)
        assert result.exit_code == 75 and "stopped by the end of the job" in result.stderr, result.stderr
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    assert run_cli("prepare", config).exit_code == 0
    same(whole_store, tmp_path / "results" / "pairs.zarr")


@fault("S07", "`apply` stops before it, between blocks of days")
def test_apply(tmp_path, monkeypatch):
    train(tmp_path)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 30))
    with pytest.raises(Stopped, match="the end of the job"):
        apply(tmp_path)
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    assert all("written" in line for line in apply(tmp_path)["predictions"])
