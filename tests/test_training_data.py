"""Days for training: their order, the days around a day, memory and disk giving the same batches, processes that read ahead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from faults import fault  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as some  # noqa: E402
from streamed_world import write_store  # noqa: E402
from training_world import FakeGroup, make_store  # noqa: E402

import downscale.training.readers as readers  # noqa: E402
from downscale.cf.calendar import decode_days, encode_days  # noqa: E402
from downscale.errors import DownscaleError, InputDataError  # noqa: E402
from downscale.training.feed import MemoryDays  # noqa: E402
from downscale.training.order import Order  # noqa: E402
from downscale.training.reading import Holes, Portion, read_windows  # noqa: E402
from downscale.training.samples import load_samples, split_portions, stream_samples  # noqa: E402
from downscale.training.stream import StreamedDays, order_of  # noqa: E402

CPU = torch.device("cpu")
BOTH = ["RCM_A/perfect", "RCM_B/imperfect"]


def positions(batches):
    return torch.cat(batches).tolist()


@pytest.mark.parametrize(("layout", "parts"), [((32, 1024), (128,) * 3), ((24, 720), (120, 120, 120, 24)), ((32, 96), (96,) * 4)])
def test_large_shards_are_read_in_pieces(layout, parts):
    array = SimpleNamespace(chunks=(layout[0], 4, 4), shards=(layout[1], 4, 4))
    portion = Portion(SimpleNamespace(targets=["tas"], node={"target_tas": array}), "perfect", np.arange(384))
    assert order_of([portion]).parts == parts


def assert_same(one, other):
    for (inputs, truth), (inputs_too, truth_too) in zip(one, other, strict=True):
        for name in ("predictors", "scalars", "days"):
            assert torch.equal(getattr(inputs, name), getattr(inputs_too, name)), name
        assert inputs.surface.shape == inputs_too.surface.shape
        assert torch.equal(truth.nan_to_num(-1.0), truth_too.nan_to_num(-1.0))


# --- order ------------------------------------------------------------------------------------------------------------------------


def test_an_epoch_is_one_permutation_by_seed_and_epoch():
    order = Order(50)
    batches = order.batches(seed=3, epoch=2, size=16)
    wanted = torch.randperm(50, generator=torch.Generator().manual_seed(3 * 1_000_003 + 2))
    assert torch.equal(torch.cat(batches), wanted)
    assert [len(batch) for batch in batches] == [16, 16, 16, 2]
    assert positions(order.batches(seed=3, epoch=3, size=16)) != positions(batches)


def test_a_last_batch_of_one_day_joins_the_one_before():
    assert [len(batch) for batch in Order(33).batches(seed=0, epoch=0, size=16)] == [16, 17]
    assert [len(batch) for batch in Order(1).batches(seed=0, epoch=0, size=16)] == [1]


@given(some.lists(some.integers(1, 9), min_size=1, max_size=9), some.integers(2, 60), some.integers(1, 7), some.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_buffer_keeps_every_day_and_few_shards_open(parts, buffer, size, seed):
    days = sum(parts)
    order = Order(days, tuple(parts), buffer)
    left = positions(order.batches(seed=seed, epoch=0, size=size))
    assert sorted(left) == list(range(days))
    if buffer >= days:
        assert left == positions(Order(days).batches(seed=seed, epoch=0, size=size))
    shard = np.repeat(np.arange(len(parts)), parts)[left]
    opened = [len(set(shard[: i + 1])) for i in range(days)]
    sizes = np.cumsum(np.array(parts)[list(dict.fromkeys(shard))])
    assert all(sizes[n - 1] - i <= buffer + 2 * max(parts) for i, n in enumerate(opened))


def test_weights_say_how_often_a_day_is_seen():
    order = Order(30, sources=(10, 20), weights=(2.5, 0.5))
    seen = np.bincount(positions(order.batches(seed=1, epoch=0, size=7)), minlength=30)
    assert seen[:10].sum() == 25 and set(seen[:10]) == {2, 3}
    assert seen[10:].sum() == 10 and set(seen[10:]) == {0, 1}
    again = np.bincount(positions(order.batches(seed=1, epoch=1, size=7)), minlength=30)
    assert not np.array_equal(seen, again)
    assert positions(Order(30, sources=(10, 20), weights=(1, 1)).batches(seed=1, epoch=0, size=7)) == positions(
        Order(30).batches(seed=1, epoch=0, size=7)
    )


# --- days around a day --------------------------------------------------------------------------------------------------------------


def numbered(days, calendar="noleap", broken=()):
    """A group whose maps hold the number of the day since 1850; NaN on some days."""
    numbers = encode_days(days, calendar)
    maps = np.broadcast_to(numbers[:, None, None, None], (len(days), 2, 1, 2)).astype(np.float32).copy()
    maps[:, 1] += 0.25
    maps[list(broken)] = np.nan
    arrays = {"perfect": maps, "target": maps.copy(), "scalars": np.zeros((len(days), 2), np.float32)}
    return FakeGroup("N", days, arrays, {}, calendar=calendar)


def window(group, index, holes):
    numbers = encode_days(group.days, group.calendar)[index]
    found = read_windows(lambda some: group.predictors("perfect", some), group.days, group.calendar, np.array(index), holes)
    return found, (found.maps[:, :, 0, 0] - numbers[:, None]).tolist()


def test_the_days_around_come_first_to_last_with_all_their_channels():
    group = numbered(np.array([20000227, 20000228, 20000301, 20000302]))
    found, apart = window(group, [1, 2], Holes(days=(-1, 0, 1)))
    assert apart == [[-1, -0.75, 0, 0.25, 1, 1.25]] * 2
    assert found.replaced == 0


def test_the_calendar_decides_which_day_is_the_one_before():
    days = np.array([20000228, 20000301])
    assert window(numbered(days), [1], Holes(days=(-1, 0)))[1] == [[-1, -0.75, 0, 0.25]]
    found, apart = window(numbered(days, "standard"), [1], Holes(days=(-1, 0)))
    assert apart == [[0, 0.25, 0, 0.25]] and found.replaced == 1


def test_at_an_end_and_beside_a_gap_the_next_day_towards_the_day_stands_in():
    group = numbered(np.array([20000101, 20000102, 20000103, 20000110]))
    found, apart = window(group, [0, 1, 2, 3], Holes(days=(-2, -1, 0, 1)))
    assert [row[::2] for row in apart] == [[0, 0, 0, 1], [-1, -1, 0, 1], [-2, -1, 0, 0], [0, 0, 0, 0]]
    assert found.replaced == 2 + 1 + 1 + 3


def test_a_neighbour_that_cannot_be_read_is_not_there():
    group = numbered(np.array([20000101, 20000102, 20000103, 20000104]), broken=[1])
    found, apart = window(group, [2, 3], Holes(days=(-2, -1, 0)))
    assert [row[::2] for row in apart] == [[-2, 0, 0], [-1, -1, 0]]
    assert found.whole.all() and found.replaced == 2
    found, _ = window(group, [1, 2], Holes(days=(-1, 0)))
    assert found.whole.tolist() == [False, True]


@given(some.lists(some.integers(0, 40), min_size=1, max_size=20, unique=True), some.integers(0, 3), some.integers(0, 3), some.data())
@settings(max_examples=60, deadline=None)
def test_windows_are_what_a_search_by_date_gives(numbers, before, after, data):
    numbers = np.sort(numbers)
    days = decode_days(numbers + 0.5, "days since 2000-02-01", "standard")
    group = numbered(days, "standard")
    index = np.sort(data.draw(some.lists(some.integers(0, len(days) - 1), min_size=1, unique=True)))
    offsets = range(-before, after + 1)
    _, apart = window(group, index.tolist(), Holes(days=tuple(offsets)))
    for place, row in zip(index, apart, strict=True):
        for offset, got in zip(offsets, row[::2], strict=True):
            steps = range(offset, 1) if offset < 0 else range(offset, -1, -1)
            assert got == next(step for step in steps if numbers[place] + step in numbers)


def test_samples_hold_the_days_and_their_dates(caplog):
    store = make_store()
    portions = split_portions(store, BOTH, "train")
    holes = Holes(days=(-1, 0))
    with caplog.at_level("INFO"):
        samples = load_samples(portions, holes)
    group = portions[0].group
    assert samples.inputs.predictors.shape[1] == 4
    assert torch.equal(samples.inputs.predictors[1, :2], torch.from_numpy(group.arrays["perfect"][portions[0].index[0]]))
    assert torch.equal(samples.inputs.predictors[:, 2:], load_samples(portions).inputs.predictors)
    assert samples.inputs.days.tolist() == [day for portion in portions for day in portion.days]
    assert f"{sum(len(p.index) for p in portions) // 7} of {len(samples)} days before or after are not there" in caplog.text
    parts = list(stream_samples(portions, holes))
    assert torch.equal(torch.cat([inputs.predictors for inputs, _ in parts]), samples.inputs.predictors)


# --- memory and disk ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("streamed") / "pairs.zarr", make_store())


@pytest.mark.parametrize(("buffer", "weights", "around"), [(0, (), (0,)), (50, (2.0, 0.5), (-1, 0, 1)), (10, (), (-1, 0))])
def test_disk_and_memory_give_the_same_batches(store, buffer, weights, around):
    portions, holes = split_portions(store, BOTH, "train"), Holes(days=around)
    memory = MemoryDays(load_samples(portions, holes), order_of(portions, buffer=buffer, weights=weights))
    disk = StreamedDays(portions, holes, store=store.path, buffer=buffer, weights=weights, workers=0)
    assert memory.order == disk.order and len(memory) == len(disk) and memory.labels([5]) == disk.labels(torch.tensor([5]))
    batches = memory.order.batches(seed=1, epoch=1, size=16)
    assert_same(memory.epoch(batches, CPU), disk.epoch(batches, CPU))
    assert_same(memory.blocks(50, CPU), disk.blocks(50, CPU))


def test_processes_give_the_same_batches_and_can_go_on_in_the_middle(store):
    portions, holes = split_portions(store, BOTH[:1], "train"), Holes(days=(-1, 0))
    memory = MemoryDays(load_samples(portions, holes), order_of(portions, buffer=40))
    disk = StreamedDays(portions, holes, store=store.path, buffer=40, workers=2)
    batches = memory.order.batches(seed=1, epoch=0, size=16)
    assert_same(memory.epoch(batches, CPU), disk.epoch(batches, CPU))
    assert_same(memory.epoch(batches[5:], CPU), disk.epoch(batches[5:], CPU))
    shares = [batch[1::2] for batch in [batches[0][:1], *batches]]  # of one process of several; the first is empty
    assert_same(memory.epoch(shares, CPU), disk.epoch(shares, CPU))
    first = disk.epoch(batches, CPU)
    next(first)
    first.close()
    assert_same(memory.epoch(batches[:3], CPU), disk.epoch(batches[:3], CPU))


def test_a_small_buffer_holds_a_small_part_of_the_days(store):
    portions = split_portions(store, BOTH, "train")
    disk = StreamedDays(portions, Holes(), store=store.path, buffer=24, workers=0)
    for _ in disk.epoch(disk.order.batches(seed=0, epoch=0, size=8), CPU):
        pass
    assert disk.rows < len(disk) / 4


def test_a_day_without_predictors_is_told_by_the_process_that_reads_it(tmp_path):
    fake = make_store()
    train = fake.groups["RCM_A"].splits["train"]
    fake.groups["RCM_A"].arrays["perfect"][train[20]] = np.nan
    day = int(fake.groups["RCM_A"].days[train[20]])
    store = write_store(tmp_path / "pairs.zarr", fake)
    disk = StreamedDays(split_portions(store, BOTH[:1], "train"), Holes(), store=store.path, workers=1)
    with pytest.raises(InputDataError) as caught:
        list(disk.blocks(64, CPU))
    assert caught.value.findings == [str(day)] and "RCM_A/perfect" in caught.value.message


@fault("S16", "a process that gives nothing in time (120 s for its first days) ends the training with exit 1, what was saved stays")
def test_a_process_that_does_not_answer_is_told(store, monkeypatch):
    monkeypatch.setattr(readers, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(readers, "_START", "import time\nprint(end='')\ntime.sleep(60)  # {signals}")
    disk = StreamedDays(split_portions(store, BOTH, "train"), Holes(), store=store.path, workers=1)
    with pytest.raises(DownscaleError, match="gave nothing for 0 s") as caught:
        next(disk.blocks(8, CPU))
    assert "train.stream" in caught.value.hint


@fault("S16", "a process that has died ends the training with exit 1; the same command goes on from the last checkpoint")
def test_a_process_that_dies_is_told(store):
    disk = StreamedDays(split_portions(store, BOTH, "train"), Holes(), store=store.path, buffer=12, workers=1)
    batches = disk.epoch(list(torch.arange(len(disk)).split(8)), CPU)
    next(batches)
    os.kill(disk.processes[0], signal.SIGKILL)
    with pytest.raises(DownscaleError, match="has ended") as caught:
        list(batches)
    assert "exit code -9" in caught.value.where
    assert len(list(disk.blocks(64, CPU))) > 1


KILLED = """
import sys, time, torch
sys.path.insert(0, {tests!r})
from training_world import make_store
from streamed_world import write_store
from downscale.training.reading import Holes
from downscale.training.samples import split_portions
from downscale.training.stream import StreamedDays
store = write_store({path!r}, make_store())
days = StreamedDays(split_portions(store, ["RCM_A/perfect"], "train"), Holes(), store=__import__("pathlib").Path({path!r}), workers=2)
batches = days.epoch(list(torch.arange(len(days)).split(8)), torch.device("cpu"))
next(batches)
sys.stdout.write(" ".join(map(str, days.processes)) + "\\n"); sys.stdout.flush()
time.sleep(60)
"""


def test_reading_processes_do_not_outlive_a_training_that_is_killed(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(tmp_path / "pairs.zarr"))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    processes = [int(one) for one in child.stdout.readline().split()]
    child.kill()
    child.wait()
    child.stdout.close()
    assert len(processes) == 2
    until = time.monotonic() + 60
    while time.monotonic() < until and any(Path(f"/proc/{one}").exists() and "Z" not in state(one) for one in processes):
        time.sleep(0.05)
    assert all(not Path(f"/proc/{one}").exists() or "Z" in state(one) for one in processes)


def state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"
