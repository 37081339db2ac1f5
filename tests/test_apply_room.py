"""apply on a small disk and in little memory: what is refused before it begins, and what gives way where the room ends meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

torch = pytest.importorskip("torch")

import apply_world  # noqa: E402
from apply_world import NET, apply, contents, train  # noqa: E402
from faults import fault  # noqa: E402

from downscale.apply import room, write  # noqa: E402
from downscale.errors import DownscaleError  # noqa: E402

SECTION = {"members": {"of": "dropout", "number": 20}, "block_days": 24}
ON_A_SMALL_DISK = """
import json, logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
logging.basicConfig()
from apply_world import NET, apply
from downscale.apply import write
from downscale.errors import DownscaleError
if sys.argv[4] == "late":
    write.blocks_fit = lambda part: True
try:
    apply(Path(sys.argv[2]), json.loads(sys.argv[3]), runs=[NET], sources=["RCM_B"])
except DownscaleError as error:
    sys.stderr.write(f"{error}\\n")
    sys.exit(error.code)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A workspace with a prediction."""
    workspace = tmp_path_factory.mktemp("room")
    with patch.dict(apply_world.MODEL, {"dropout": 0.1}):
        train(workspace)
    apply(workspace, SECTION, runs=[NET], sources=["RCM_B"])
    return workspace


def on_a_small_disk(whole: Path, place: Path, share: float, when: str = "") -> subprocess.CompletedProcess:
    """The same prediction on a disk with a share of the bytes that it has; what is left there lies in ``place/left``."""
    shutil.copytree(whole / "runs", place / "runs")
    (place / "predictions").mkdir()
    size = int(share * sum(path.stat().st_size for path in (whole / "predictions").rglob("*") if path.is_file())) // 1024
    mount = f'mount -t tmpfs -o size={size}k none "$0/predictions" || exit 99; "$@"; code=$?; cp -r "$0/predictions" "$0/left"; exit $code'
    code = [sys.executable, "-c", ON_A_SMALL_DISK, str(Path(__file__).parent), str(place), json.dumps(SECTION), when]
    command = ["unshare", "-rm", "bash", "-c", mount, str(place), *code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("file systems in a namespace of their own are not permitted here")
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.skipif(not shutil.which("unshare"), reason="there is no unshare")
@pytest.mark.parametrize(
    ("share", "when", "said"),
    [(1.15, "", "the disk has little room"), (1.15, "late", "the disk is full"), (2.4, "late", "the disk is full")],
    ids=["known before", "no room for the blocks", "no room for the output"],
)
@fault("S08", "`apply`: computed blocks that it keeps give way to the output, before it begins or when the disk turns out to be full")
def test_a_disk_that_holds_the_output_is_large_enough(whole, tmp_path, share, when, said):
    done = on_a_small_disk(whole, tmp_path, share, when)
    assert done.returncode == 0, done.stderr
    assert f"finished blocks cannot be kept ({said})" in done.stderr
    assert contents(tmp_path / "left") == contents(whole / "predictions")


@pytest.mark.skipif(not shutil.which("unshare"), reason="there is no unshare")
def test_a_disk_that_does_not_is_told_to_be_full(whole, tmp_path):
    done = on_a_small_disk(whole, tmp_path, 0.7, "late")
    assert done.returncode == 1 and "cannot write: the disk is full" in done.stderr and "GB free" in done.stderr, done.stderr
    left = {path.name for path in (tmp_path / "left").rglob("*") if path.is_file()}
    assert left <= {"pr.nc", "tas.nc"}, left


@pytest.mark.skipif(not shutil.which("unshare"), reason="there is no unshare")
@fault("S08", "`apply`: what cannot fit on the disk is refused before anything is computed: exit 1 with the need and the free space")
def test_a_disk_that_cannot_is_refused_before(whole, tmp_path):
    done = on_a_small_disk(whole, tmp_path, 0.1)
    assert done.returncode == 1 and "the disk has no room" in done.stderr, done.stderr
    assert not list((tmp_path / "left").iterdir())


@fault("S12", "`apply`: what does not fit into the memory of the job or container is refused before it begins: exit 1 with the need")
@pytest.mark.parametrize("workers", [1, 2])
def test_too_little_memory(whole, tmp_path, monkeypatch, workers):
    shutil.copytree(whole / "runs", tmp_path / "runs")
    held = room.resident()
    monkeypatch.setattr(room, "memory_limit", lambda: int(1.2 * held))
    if workers == 1:
        monkeypatch.setattr(room, "memory_limit", lambda: held)
    with pytest.raises(DownscaleError, match=r"too little memory: .*GB needed") as caught:
        apply(tmp_path, {}, runs=[NET], sources=["RCM_B"], workers=workers)
    assert ("--workers" in caught.value.hint) == (workers == 2)
    assert not list((tmp_path / "predictions").rglob("*.nc"))
    monkeypatch.setattr(room, "memory_limit", lambda: 10 * held)
    assert "written" in apply(tmp_path, {}, runs=[NET], sources=["RCM_B"])["predictions"][0]


def test_what_a_period_takes_on_disk(whole, monkeypatch):
    found = {}

    def look(part):
        found[part.job.layout.significant_bits] = room.output_bytes(part)
        return True

    monkeypatch.setattr(write, "blocks_fit", look)
    for bits in (7, None):
        apply(whole, {**SECTION, "significant_bits": bits}, runs=[NET], sources=["RCM_B"], overwrite=True)
    assert found == {None: 4 * 224 * 2 * 80 * 20, 7: 2 * 224 * 2 * 80 * 20}
