"""prepare as real processes: small shards, each told in a file, slow on demand; in the command and in every worker it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SITE = """\
import os, sys, time
import downscale.pairs.store as store
import downscale.pairs.tasks as tasks
store.shard_days = lambda cell_bytes: (32, 96)
fields, record = tasks._fields, tasks._record

def slow_fields(*arguments):
    time.sleep(float(os.environ.get("SLOW", "0")))
    return fields(*arguments)

def told_record(shelf, number, counts):
    record(shelf, number, counts)
    with open(os.environ["TOLD"], "a") as stream:
        stream.write(f"{shelf.name} {number} {os.getpid()}\\n")

tasks._fields, tasks._record = slow_fields, told_record
"""
_RUN = "from downscale.cli.app import main; main()"


class Bench:
    """A folder in which commands run as processes; ``told`` lists (group, number, process) of every shard that was recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SITE)
        self.file = folder / "told"

    def environment(self, slow: float = 0.0) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder), "TOLD": str(self.file), "SLOW": str(slow), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: object, slow: float = 0.0, **options) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _RUN, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment(slow), **pipes, **options)

    def run(self, *arguments: object, code: int = 0, **options) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, (process.returncode, out, err)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def told(self) -> list[tuple[str, ...]]:
        return [tuple(line.split()) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    @property
    def workers(self) -> set[str]:
        return {pid for *_, pid in self.told}

    def other_process(self, process: subprocess.Popen[str]) -> int:
        """A process beside this one that has recorded a shard; waits for the first."""
        shards = 1
        while not (others := {int(pid) for *_, pid in self.told} - {process.pid}):
            self.wait_for(shards, process)
            shards = len(self.told) + 1
        return others.pop()

    def wait_for(self, shards: int, process: subprocess.Popen[str]) -> None:
        until = time.monotonic() + 60
        while len(self.told) < shards:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, self.told
            time.sleep(0.02)

    def stop(self, process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
        return process.returncode, err


def tree(store: Path) -> dict[str, bytes]:
    """All files of a store but the root's attributes, which name the workspace."""
    files = {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    files.pop("zarr.json")
    return files


def same(one: Path, other: Path) -> None:
    """Hold two stores equal to the last bit, notes and attributes included."""
    a, b = tree(one), tree(other)
    assert sorted(a) == sorted(b)
    assert [name for name in a if a[name] != b[name]] == []


def gone(pids: set[str]) -> None:
    """Hold that processes end within seconds."""
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() and b"State:\tZ" not in Path(f"/proc/{pid}/status").read_bytes() for pid in pids):
        assert time.monotonic() < until, pids
        time.sleep(0.05)


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path / "bench")


@pytest.fixture(scope="session")
def noted_world(tiny_world, tmp_path_factory) -> Path:
    """The tiny world with undeclared fill values, negligible negative rain and missing days sprinkled over the years of one RCM."""
    import shutil

    import netCDF4

    target = tmp_path_factory.mktemp("noted") / "data"
    shutil.copytree(tiny_world, target, copy_function=lambda source, to: shutil.copyfile(source, to))
    (rain,) = (target / "rcm" / "VGCM-A").glob("pr_*.nc")
    with netCDF4.Dataset(rain, "a") as dataset:
        dataset["pr"][::90, 0, 0] = -1e-9
    (warmth,) = (target / "rcm" / "VGCM-A").glob("ta850_*.nc")
    with netCDF4.Dataset(warmth, "a") as dataset:
        dataset.set_auto_mask(False)
        dataset["ta850"][5::300] = float("nan")
    return target


@pytest.fixture
def small_shards(monkeypatch) -> None:
    """The same shards in this process as in those of a bench."""
    monkeypatch.setattr("downscale.pairs.store.shard_days", lambda cell_bytes: (32, 96))


@pytest.fixture(scope="session")
def whole_store(noted_world, tmp_path_factory) -> Path:
    """The store that one process makes of the noted world, never disturbed."""
    from conftest import run_cli

    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("downscale.pairs.store.shard_days", lambda cell_bytes: (32, 96))
        assert run_cli("prepare", noted_config(folder, noted_world), "--workers", "1").exit_code == 0
    return folder / "results" / "pairs.zarr"


def noted_config(folder: Path, data: Path) -> Path:
    """A config in a folder: a pair with truth and a lone GCM of the noted world."""
    import json

    from conftest import EXPERIMENT

    geometry = json.loads((data / "truth.json").read_text())["geometry"]
    text = EXPERIMENT.format(
        data=data, coarse=geometry["coarse_box_edges"], fine=2 * geometry["target_cells"], relaxation=geometry["relaxation_cells"]
    )
    dropped = ("  RCM_B:", "finetune:", "few_shot:")
    lines = [line.replace(", drives: RCM_B", "") for line in text.splitlines() if not line.startswith(dropped)]
    path = folder / "config.yaml"
    path.write_text("\n".join([*lines, "missing: {nan_days: drop}", ""]))
    return path
