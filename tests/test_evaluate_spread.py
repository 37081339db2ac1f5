"""Blocks of rows, whoever does them (threads, a running Dask by its address), and where series are put aside for them."""

from __future__ import annotations

import numpy as np
import pytest
from fake_workspace import make_workspace
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.errors import EnvironmentMissingError, InputDataError
from downscale.evaluate.blocks import in_order
from downscale.evaluate.blocks_spread import spreading
from downscale.evaluate.files.shelf import RowStore
from downscale.evaluate.passes import GroupPass
from downscale.evaluate.predictions import find_predictions
from downscale.evaluate.selection import TimeTable


@pytest.fixture(scope="module")
def group_pass(tmp_path_factory):
    """(a pass in blocks of three rows, its predictions, what it finds by itself)."""
    root = tmp_path_factory.mktemp("workspace")
    _, store = make_workspace(root, size=10, runs=("resunet-A", "ridge-A"))
    group = store.groups["RCM_A"]
    index = group.split("test")
    table = TimeTable(group.days[index], group.calendar)
    work = GroupPass(group, store.targets, table, index, np.ones((10, 10)), 1.0, block_bytes=len(index) * 10 * 4 * 3)
    predictions = [one for one in find_predictions(root / "predictions") if one.group == "RCM_A"]
    return work, predictions, work.run(predictions)


def _equal(one, other):
    assert one.predictions.keys() == other.predictions.keys() and one.split.keys() == other.split.keys()
    for found, expected in ((one.predictions, other.predictions), (one.truth, other.truth)):
        for key, series in expected.items():
            assert found[key].means.keys() == series.means.keys()
            for name, mean in series.means.items():
                assert found[key].means[name].value == pytest.approx(mean.value, rel=1e-12, nan_ok=True), (key, name)
            for name, values in series.maps.items():
                np.testing.assert_array_equal(found[key].maps[name], values)
            for mine, theirs in zip(found[key].sample, series.sample, strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_threads_give_the_same(group_pass):
    work, predictions, expected = group_pass
    with spreading(workers=3, threads=True) as spread:
        _equal(work.run(predictions, spread), expected)


def test_a_running_dask_gives_the_same_and_its_errors_come_back(group_pass, tmp_path):
    distributed = pytest.importorskip("distributed")
    work, predictions, expected = group_pass
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        with spreading(cluster.scheduler_address) as spread:
            _equal(work.run(predictions, spread), expected)
        gone = [type(one)(**{**vars(one), "folder": tmp_path}) for one in predictions]
        with spreading(cluster.scheduler_address) as spread, pytest.raises(InputDataError, match="cannot read a prediction") as caught:
            work.run(gone, spread)
        assert caught.value.hint == "run downscale apply again"


def test_blocks_are_put_in_order():
    assert list(in_order([(4, "c"), (0, "a"), (2, "b")], [0, 2, 4])) == [(0, "a"), (2, "b"), (4, "c")]


def test_a_scheduler_file_that_is_not_there(tmp_path):
    with pytest.raises(EnvironmentMissingError, match="neither an address") as caught, spreading(str(tmp_path / "none.json")):
        pass
    assert caught.value.code == 5 and len(caught.value.lines()) <= 3


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 7), st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_what_was_put_aside_comes_back(tmp_path_factory, n, ny, nx, step, on_disk, seed):
    fields = np.random.default_rng(seed).normal(size=(n, ny, nx)).astype(np.float32)
    path = tmp_path_factory.mktemp("rows") / "rows" if on_disk else None
    with RowStore((n, ny, nx), path) as store:
        store.height = min(step, ny)
        if on_disk:
            store.close()
        with RowStore((n, ny, nx), path) as other:
            for start in range(0, n, step):
                other.write(start, fields[start : start + step])
            for top in range(ny):
                assert np.array_equal(other.read(slice(top, ny)), fields[:, top:])
            assert np.array_equal(other.read(days=slice(1, n - 1)), fields[1 : n - 1])
    assert path is None or not path.exists()


def _double(number):
    return number, 2 * number


@pytest.mark.parametrize(("scheduler", "workers", "threads"), [(None, None, False), (None, 3, True), (None, 1, True)])
def test_every_task_is_done_once(scheduler, workers, threads):
    with spreading(scheduler, workers, threads=threads) as spread:
        assert sorted(spread(_double, [(number,) for number in range(20)])) == [(number, 2 * number) for number in range(20)]
