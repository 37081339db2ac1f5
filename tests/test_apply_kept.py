"""Computed blocks of an unfinished period: what is kept, what is trusted, what is removed; and apply that goes on from them."""

from __future__ import annotations

import logging
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import apply_world  # noqa: E402
from apply_world import NET, apply, config, contents, train  # noqa: E402
from faults import fault  # noqa: E402

from downscale.apply import kept, write  # noqa: E402
from downscale.apply.kept import Block, KeptBlocks  # noqa: E402
from downscale.apply.marks import BLOCKS  # noqa: E402
from downscale.apply.status import workspace_status  # noqa: E402
from downscale.errors import DownscaleError, OutputExistsError  # noqa: E402
from downscale.training.moments import Sums  # noqa: E402

DAYS = np.arange(20000101, 20000129)
SIZES = (5, 9, 14)


class Killed(BaseException):
    """As if the process ended here."""


def blocks() -> list[Block]:
    rng, made, at = np.random.default_rng(0), [], 0
    for size in SIZES:
        fields = tuple(rng.standard_normal((size, 2, 3, 4)).astype(np.float32) for _ in range(2))
        fields[0][0, 0, 0, 0] = np.nan
        series = {"ood_score": rng.random(size).astype(np.float32), "ood_flag": np.arange(size).astype(np.int8)}
        counts = {"days": at + size, "outside_tas": 0.1 + at}
        made.append(Block(DAYS[at : at + size], fields, series, [int(DAYS[at])], counts, Sums.of(rng.standard_normal((at + size, 3)))))
        at += size
    return made


def same(one: Block, other: Block) -> None:
    for a, b in zip((one.days, *one.fields), (other.days, *other.fields), strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
    assert one.series.keys() == other.series.keys() and (one.missing, one.counts) == (other.missing, other.counts)
    for name, values in one.series.items():
        assert values.dtype == other.series[name].dtype and values.tobytes() == other.series[name].tobytes()
    for name, values in one.sums.tensors("s").items():
        np.testing.assert_array_equal(values, other.sums.tensors("s")[name])


def keep(path: Path, some: list[Block], recipe: str = "r") -> None:
    """What a process that was killed after these blocks leaves."""
    with pytest.raises(Killed), KeptBlocks(path, recipe) as found:
        assert list(found.read(DAYS)) == []
        for block in some:
            found.add(block)
        raise Killed


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("kept") / ".blocks"
    keep(path, blocks())
    return path.read_bytes()


def test_blocks_come_back_to_the_bit_and_others_follow(tmp_path):
    path = tmp_path / ".blocks"
    keep(path, blocks()[:1])
    with pytest.raises(Killed), KeptBlocks(path, "r") as found:
        (first,) = found.read(DAYS)
        same(first, blocks()[0])
        for block in blocks()[1:]:
            found.add(block)
        raise Killed
    with KeptBlocks(path, "r") as found:
        for one, other in zip(found.read(DAYS), blocks(), strict=True):
            same(one, other)
    assert not path.exists()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_file_that_is_cut_or_damaged_gives_whole_blocks_only(three, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / ".blocks"
    at = data.draw(st.integers(0, len(three) - 1))
    broken = three[:at] if data.draw(st.booleans()) else three[:at] + bytes([three[at] ^ data.draw(st.integers(1, 255))]) + three[at + 1 :]
    path.write_bytes(broken)
    ends = np.cumsum([0, *(len(record(three, position)) for position in range(3))])
    whole = int(np.searchsorted(ends, at, side="right")) - 1
    with pytest.raises(Killed), KeptBlocks(path, "r") as found:
        read = list(found.read(DAYS))
        assert len(read) == whole
        for block in blocks()[whole:]:
            found.add(block)
        raise Killed
    assert path.read_bytes() == three


def record(data: bytes, position: int) -> bytes:
    at = 0
    for _ in range(position + 1):
        start, at = at, at + kept._HEAD.size + sum(kept._HEAD.unpack(data[at : at + kept._HEAD.size])[:2])
    return data[start:at]


def test_blocks_of_another_recipe_or_of_other_days_are_not_used(tmp_path):
    path = tmp_path / ".blocks"
    keep(path, blocks())
    with pytest.raises(Killed), KeptBlocks(path, "another") as found:
        assert list(found.read(DAYS)) == []
        raise Killed
    assert path.stat().st_size == 0
    keep(path, blocks())
    with KeptBlocks(path, "r") as found:
        assert len(list(found.read(np.delete(DAYS, 7)))) == 1


def test_an_error_that_is_told_removes_them_and_a_link_is_refused(tmp_path):
    path = tmp_path / ".blocks"
    with pytest.raises(DownscaleError), KeptBlocks(path, "r") as found:
        list(found.read(DAYS))
        found.add(blocks()[0])
        raise DownscaleError("the disk is full")
    assert not path.exists()
    (tmp_path / "elsewhere").write_text("mine")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError):
        KeptBlocks(path, "r")
    assert (tmp_path / "elsewhere").read_text() == "mine"


FULL = """
import logging, resource, sys
sys.path.insert(0, sys.argv[1])
logging.basicConfig()
from test_apply_kept import DAYS, KeptBlocks, Path, blocks
path = Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
with KeptBlocks(path, "r") as found:
    list(found.read(DAYS))
    for block in blocks():
        found.add(block)
        print(path.exists())
"""


@fault("S08", "`apply`: where only the blocks that it keeps find no room, it goes on without keeping them, and says so")
def test_no_room_for_them_is_a_warning(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    code = [sys.executable, "-c", FULL, str(Path(__file__).parent), str(tmp_path / ".blocks")]
    done = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False", "False"] and done.stderr.count("finished blocks cannot be kept (File too large)") == 1


def test_a_file_that_cannot_be_made_is_a_warning_too(tmp_path, caplog):
    with KeptBlocks(tmp_path / "none" / ".blocks", "r") as found:
        assert list(found.read(DAYS)) == []
        found.add(blocks()[0])
    assert "cannot be kept (No such file or directory)" in caplog.text


# --- apply -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("kept")
    with patch.dict(apply_world.MODEL, {"dropout": 0.1}):
        train(workspace)
    return workspace


SECTIONS = {
    "one file": {},
    "two files": {"years_per_file": 4},
    "zarr": {"profile": "zarr"},
    "members": {"members": {"of": "dropout", "number": 2}},
    "mean and spread": {"members": {"of": "dropout", "number": 2, "write": "mean_and_spread"}},
}


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
@fault("S02", "`apply` computes each block once, however often it is killed: finished blocks of an unfinished period are kept")
def test_each_day_is_computed_once(trained, tmp_path, section, caplog):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    section = {"block_days": 48, **section}
    for place in (whole, killed):
        shutil.copytree(trained / "runs", place / "runs")
    apply(whole, section, runs=[NET], sources=["RCM_B"])
    days: Counter[int] = Counter()
    work, add = write.emulate_blocks, KeptBlocks.add

    def counted(*arguments):
        for block in work(*arguments):
            days.update(block.days.tolist())
            yield block

    def killing(self, block):
        add(self, block)
        raise Killed

    with patch.object(write, "emulate_blocks", counted):
        with patch.object(KeptBlocks, "add", killing):
            for _ in range(3):
                with pytest.raises(Killed):
                    apply(killed, section, runs=[NET], sources=["RCM_B"])
        assert max(days.values()) == 1
        lines = workspace_status(config(killed, **section))["predictions"]
        assert [line for line in lines if ": begun: " in line and "blocks" in line], lines
        with caplog.at_level(logging.INFO, logger="downscale"):
            apply(killed, section, runs=[NET], sources=["RCM_B"])
    assert "days were computed before" in caplog.text
    assert len(days) == 224 and set(days.values()) == {1}
    mine, theirs = (lasting(root / "predictions") for root in (killed, whole))
    assert mine and mine == theirs and not [name for name in mine if BLOCKS in name]


def lasting(folder: Path) -> dict[str, object]:
    """Contents of all files, without the attributes of a Zarr store, which hold the time of writing."""
    return {name: value for name, value in contents(folder).items() if not name.endswith((".zattrs", ".zmetadata"))}
