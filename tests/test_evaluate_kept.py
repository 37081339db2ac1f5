"""Blocks of an evaluation that are kept: the same to the bit when read again, not used for anything else, gone in the end."""

from __future__ import annotations

import math
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from faults import fault

from downscale.errors import DiskFullError, InputDataError, Stopped
from downscale.evaluate.blocks import AreaMean, FieldScores, GroupScores, one_by_one
from downscale.evaluate.kept import keeping, read_block, write_block


def block(seed: int) -> GroupScores:
    """One with something in every field."""
    rng = np.random.default_rng(seed)
    means = {("rmse", "DJF", "all"): AreaMean(0.1 + 0.2, math.pi, 3), ("bias", "ANN", "p1"): AreaMean(math.nan, 0.0, 0)}
    maps = {("mean", "ANN", "all"): rng.standard_normal((2, 3)).astype(np.float32)}
    sample = [np.full((4, 2), np.nan, np.float32), rng.standard_normal((4, 1))]
    found = FieldScores((2, 3), means, maps, [AreaMean(1.0, 2.0, 1)], sample, True, {"Alps": dict(means)}, {"": rng.random((6, 4))})
    found.p_values[("ANN", "all")] = rng.random((2, 3))
    split = {("net", "tas", "ANN", "drift"): AreaMean(1e-300, 1.0, 2)}
    return GroupScores({("net", "perfect", "tas"): found}, {"tas": found}, split, np.arange(5), 2, {"": np.array([True, False])})


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, AreaMean | FieldScores | GroupScores):
        return type(one) is type(other) and same(vars(one), vars(other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def test_a_block_comes_back_to_the_bit_and_only_for_its_recipe(tmp_path):
    write_block(tmp_path / "blocks" / "a.npz", "this", block(0))
    found = read_block(tmp_path / "blocks" / "a.npz", "this")
    assert found is not None and same(found, block(0)) and not same(found, block(1))
    assert read_block(tmp_path / "blocks" / "a.npz", "that") is None
    assert [path.name for path in (tmp_path / "blocks").iterdir()] == ["a.npz"]


def test_a_damaged_block_is_done_again(tmp_path):
    path = tmp_path / "a.npz"
    assert read_block(path, "this") is None
    write_block(path, "this", block(0))
    path.write_bytes(path.read_bytes()[:-100])
    assert read_block(path, "this") is None
    np.savez(path, said=np.array([{"a": 1}], dtype=object))
    assert read_block(path, "this") is None  # a pickle, which is never read


def work(task: SimpleNamespace, predictions: list, rows: slice, cells: None) -> tuple[int, GroupScores]:
    task.did.append(rows.start)
    if rows.start == task.signal:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    return rows.start, block(rows.start)


def tasks(did: list, signal: int = -1):
    group = SimpleNamespace(group=SimpleNamespace(name="RCM_A"), did=did, signal=signal)
    return [(group, [], slice(start, start + 2), None) for start in (0, 2, 4)]


@fault("S01", "`evaluate` keeps finished blocks of rows, exits 75 after the one in work, and goes on from there")
def test_stopped_after_a_block_and_gone_on(tmp_path):
    did: list[int] = []
    with pytest.raises(Stopped, match="SIGTERM"), keeping(one_by_one, tmp_path / "blocks", "this") as spread:
        list(spread(work, tasks(did, signal=2)))
    assert did == [0, 2] and len(list((tmp_path / "blocks").iterdir())) == 2
    with keeping(one_by_one, tmp_path / "blocks", "this") as spread:
        found = dict(spread(work, tasks(did)))
    assert did == [0, 2, 4] and all(same(found[start], block(start)) for start in (0, 2, 4))
    assert not (tmp_path / "blocks").exists()


@fault("S07", "`evaluate` stops in time, after a block of rows")
def test_before_the_end_of_a_job(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 30))
    for done in (1, 2, 3):
        did: list[int] = []
        with pytest.raises(Stopped, match="the end of the job"), keeping(one_by_one, tmp_path / "blocks", "this") as spread:
            list(spread(work, tasks(did)))
        assert len(did) == 1 and len(list((tmp_path / "blocks").iterdir())) == done
    with keeping(one_by_one, tmp_path / "blocks", "this") as spread:
        assert len(list(spread(work, tasks(did)))) == 3


def test_other_recipes_do_not_mix_and_a_refusal_leaves_nothing(tmp_path):
    did: list[int] = []
    with pytest.raises(Stopped), keeping(one_by_one, tmp_path / "blocks", "this") as spread:
        list(spread(work, tasks(did, signal=4)))
    with pytest.raises(InputDataError), keeping(one_by_one, tmp_path / "blocks", "that") as spread:
        list(spread(work, tasks(did)))
        raise InputDataError("a field never changes")
    assert did == [0, 2, 4, 0, 2, 4] and not (tmp_path / "blocks").exists()


def test_a_failure_that_is_no_blocks_fault_leaves_them(tmp_path):
    did: list[int] = []
    with pytest.raises(DiskFullError), keeping(one_by_one, tmp_path / "blocks", "this") as spread:
        list(spread(work, tasks(did)))
        raise DiskFullError("no room for the tables")
    with keeping(one_by_one, tmp_path / "blocks", "this") as spread:
        assert len(list(spread(work, tasks(did)))) == 3
    assert did == [0, 2, 4] and not (tmp_path / "blocks").exists()
