"""downscale doctor, and how quickly help comes."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from conftest import run_cli

from downscale.hpc import doctor


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_this_machine_is_usable(tmp_path):
    result = run_cli("doctor", "--path", tmp_path)
    assert result.exit_code == 0, result.output
    for words in (
        "torch",
        "netcdf-c",
        "HDF5",
        "cores",
        "memory",
        "atomic rename (nothing half-written)",
        "free space",
        "Batch system",
        "usable",
    ):
        assert words in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_has_every_finding_with_its_state(tmp_path):
    result = run_cli("doctor", "--path", tmp_path, "--json")
    found = json.loads(result.stdout)
    assert found["usable"] is True and found["facts"]["versions"]["numpy"] == {"value": importlib.metadata.version("numpy"), "state": "ok"}
    assert set(found["facts"]) == {"versions", "devices", "machine", "disk", "locking", "scheduler"}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_missing_package_is_exit_5(monkeypatch, options):
    version = importlib.metadata.version

    def without_zarr(name):
        if name == "zarr":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_zarr)
    result = run_cli("doctor", *options)
    assert result.exit_code == 5
    assert "zarr" in (result.stdout if options else result.stderr)


def test_a_package_that_does_not_load_is_missing_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "netCDF4", None)
    result = run_cli("doctor")
    assert result.exit_code == 5 and "netCDF4" in result.stderr and "ModuleNotFoundError" in result.stdout


def test_a_file_system_without_locks_says_what_to_set(tmp_path, monkeypatch):
    import fcntl

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for setting, state in (("TRUE", "note"), ("FALSE", "ok")):
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", setting)
        found = by_name(doctor.locking(tmp_path))["flock (what HDF5 uses)"]
        assert found.state == state and "HDF5_USE_FILE_LOCKING=FALSE" in found.value


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to refuse file locks with")
@pytest.mark.parametrize("number", [37, 524])
def test_files_are_read_and_written_where_the_file_system_refuses_locks(tmp_path, number):
    """Lustre without flock, and some NFS servers; the user's own setting is obeyed."""
    (tmp_path / "flock.c").write_text(f"#include <errno.h>\nint flock(int file, int how) {{ errno = {number}; return -1; }}\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "flock.so", "flock.c"], cwd=tmp_path, check=True)
    code = (
        "from downscale.hpc.startup import begin; begin()\n"
        "import netCDF4\n"
        "netCDF4.Dataset('a.nc', 'w').close(); netCDF4.Dataset('a.nc').close()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_USE_FILE_LOCKING"}
    environment["LD_PRELOAD"] = str(tmp_path / "flock.so")
    for setting, fails in (({}, False), ({"HDF5_USE_FILE_LOCKING": "TRUE"}, True)):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**environment, **setting}, capture_output=True, text=True, check=False
        )
        assert bool(done.returncode) == fails, done.stderr


def test_a_file_system_that_cannot_sync_or_rename_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    found = by_name(doctor.locking(tmp_path))
    assert found["fsync (checkpoints survive a crash)"].state == "warning"
    assert found["exclusive creation (one writer a folder)"].state == "ok"


def test_the_job_and_its_limits_are_seen(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}" if name in ("sbatch", "srun") else None)
    found = by_name(doctor.scheduler())
    assert "sbatch, srun" in found["SLURM"].value and "4711" in found["inside a job"].value
    (tmp_path / "memory.max").write_text(str(2**31))
    monkeypatch.setattr(doctor, "_own_cgroups", lambda: [tmp_path])
    assert doctor.memory_limit() == 2**31 and doctor.memory()[1] <= 2**31
    (tmp_path / "memory.max").write_text("max")
    assert doctor.memory_limit() is None


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path):
    assert doctor.nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert doctor.is_writable(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    assert not doctor.is_writable(tmp_path / "file")


def test_help_answers_at_once_and_loads_nothing_heavy():
    code = "import sys; from downscale.cli.app import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {m.split('.')[0] for m in sys.modules} & {'torch', 'xarray', 'numpy', 'pydantic', 'netCDF4'}; assert not heavy, heavy"
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 5 and "doctor" in result.stdout
