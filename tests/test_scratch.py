"""hpc.scratch: the pairs on a disk of the node, verified, and the store itself where that cannot be."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from downscale.hpc import scratch
from downscale.hpc.scratch import local_copy, scratch_folder


@pytest.fixture
def store(tmp_path) -> Path:
    folder = tmp_path / "pairs.zarr"
    (folder / "group" / "c").mkdir(parents=True)
    (folder / "zarr.json").write_text("{}")
    (folder / "group" / "c" / "0").write_bytes(bytes(range(256)) * 100)
    return folder


def copied(store: Path, where: object, *, stopped: bool = False, met: list | None = None):
    return local_copy(store, str(where), meet=lambda: None if met is None else met.append(1), stopped=lambda: stopped)


def test_a_copy_is_there_while_it_is_needed(store, tmp_path, caplog):
    met: list[int] = []
    with caplog.at_level(logging.INFO, "downscale"), copied(store, tmp_path / "near", met=met) as copy:
        assert copy is not None and copy.parent.parent == tmp_path / "near"
        files = [path.relative_to(store) for path in store.rglob("*") if path.is_file()]
        assert all((copy / path).read_bytes() == (store / path).read_bytes() for path in files) and len(files) == 2
        assert copy.parent.stat().st_mode & 0o077 == 0
        assert len(met) == 1
    assert len(met) == 2 and not list((tmp_path / "near").iterdir())
    assert "is copied to" in caplog.text and "are read from the copy" in caplog.text


def test_it_goes_when_the_command_fails(store, tmp_path):
    with pytest.raises(KeyError), copied(store, tmp_path / "near") as copy:
        assert copy is not None
        raise KeyError
    assert not list((tmp_path / "near").iterdir())


@pytest.mark.parametrize("trouble", ["damaged", "full", "forbidden", "stopped", "variable"])
def test_without_a_copy_the_store_itself_is_read_and_that_is_said(store, tmp_path, caplog, monkeypatch, trouble):
    where, words = tmp_path / "near", {"damaged": "is not what was copied", "full": "GB free", "stopped": "stopped while copying"}
    if trouble == "damaged":
        monkeypatch.setattr(scratch, "_digest", lambda path, copy=None, plain=scratch._digest: plain(path, copy) + str(path).encode())
    if trouble == "full":
        monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 100))
    if trouble == "forbidden":
        where.write_text("a file")
    if trouble == "variable":
        monkeypatch.delenv("NO_SUCH_DISK", raising=False)
        where, words["variable"] = "$NO_SUCH_DISK", "$NO_SUCH_DISK is not set"
    with caplog.at_level(logging.WARNING, "downscale"), copied(store, where, stopped=trouble == "stopped") as copy:
        assert copy is None
    assert words.get(trouble, "hpc.scratch") in caplog.text and f"days are read from {store}" in caplog.text
    assert not (tmp_path / "near").is_dir() or not list((tmp_path / "near").iterdir())


def test_the_folder_that_a_variable_of_the_job_names(monkeypatch, tmp_path):
    monkeypatch.setenv("JOBSCRATCH", str(tmp_path))
    assert scratch_folder("$JOBSCRATCH") == tmp_path
    assert scratch_folder(str(tmp_path)) == tmp_path


KILLED = """
import os, signal, sys
from pathlib import Path
from downscale.hpc.scratch import local_copy
with local_copy(Path(sys.argv[1]), sys.argv[2], meet=lambda: None, stopped=lambda: False) as copy:
    assert copy is not None
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_command_left_goes_with_the_next_one(store, tmp_path):
    near = tmp_path / "near"
    subprocess.run([sys.executable, "-c", KILLED, str(store), str(near)], check=False)
    (left,) = near.iterdir()
    (near / "precious").write_text("of somebody else")
    with copied(store, near) as copy:
        assert copy is not None and not left.exists()
    assert os.listdir(near) == ["precious"]  # noqa: PTH208


def test_one_process_of_a_node_copies_and_the_others_find_it(store, tmp_path, monkeypatch):
    places = {"WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    for name, value in {**places, "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with copied(store, tmp_path / "near") as first:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("LOCAL_RANK", "1")
        with copied(store, tmp_path / "near") as second:
            assert second == first is not None
        assert first.is_dir()
        monkeypatch.setenv("LOCAL_RANK", "0")
