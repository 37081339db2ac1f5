"""apply as a list of pieces of work: periods, blocks, several processes, kills, locks, and what is left of each."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apply_world import NET, apply, config, contents, fields, train  # noqa: E402
from faults import fault  # noqa: E402

from downscale.apply import predict, share  # noqa: E402
from downscale.apply.feed import with_missing  # noqa: E402
from downscale.apply.flow import Behind, ahead  # noqa: E402
from downscale.apply.lead import lead_time  # noqa: E402
from downscale.apply.status import workspace_status  # noqa: E402
from downscale.errors import DownscaleError, InputDataError, OutputExistsError  # noqa: E402
from downscale.evaluate.predictions import PredictionReader, find_predictions, prediction_days  # noqa: E402

pytestmark = pytest.mark.slow

YEARLY = {"years_per_file": 1, "block_days": 8}
SCRIPT = Path(__file__).with_name("apply_world.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with a network and a baseline."""
    workspace = tmp_path_factory.mktemp("apply")
    train(workspace)
    return workspace


@pytest.fixture
def workspace(trained, tmp_path):
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    """What an undisturbed command leaves: all in one file, and a file a year."""
    found = {}
    for name, section in (("one", {}), ("yearly", YEARLY)):
        place = tmp_path_factory.mktemp(name)
        shutil.copytree(trained / "runs", place / "runs")
        apply(place, section, runs=[NET])
        found[name] = place / "predictions" / NET
    return found


def start(workspace, seconds=0.02, section=YEARLY, **options):
    code = [sys.executable, str(SCRIPT), str(workspace), str(seconds), json.dumps(section)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_a_file_a_year_holds_what_one_file_holds_and_evaluate_reads_both(whole):
    one, yearly = whole["one"] / "RCM_B_perfect", whole["yearly"] / "RCM_B_perfect"
    assert sorted(path.name for path in one.glob("*.nc")) == ["pr.nc", "tas.nc"]
    names = sorted(path.name for path in yearly.glob("tas*.nc"))
    assert len(names) == 8 and names[0] == "tas_20000101-20001007.nc" and (yearly / "parts" / "20000101-20001007.json").is_file()
    for name in ("tas", "pr"):
        np.testing.assert_array_equal(fields(one, name), fields(yearly, name))
    read = {}
    for place in whole.values():
        found = next(one for one in find_predictions(place.parent) if one.case == "RCM_B/perfect")
        days, calendar = prediction_days(found)
        with PredictionReader(found, "pr", days[5:120], calendar) as reader:
            assert reader.shape == (8, 10)
            read[place] = reader.read(slice(2, 6), slice(10, 100))
    first, second = read.values()
    assert first.shape == (90, 4, 10)
    np.testing.assert_array_equal(first, second)


@fault("O03", "fields do not depend on `apply.block_days`, threads, periods or the process that computes: bitwise the same on a CPU")
@pytest.mark.parametrize("block_days", [1, 7, 50])
def test_blocks_and_threads_do_not_change_a_bit(workspace, whole, block_days):
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if block_days == 7 else 1)
    try:
        apply(workspace, {"block_days": block_days}, runs=[NET])
    finally:
        torch.set_num_threads(threads)
    assert contents(workspace / "predictions" / NET) == contents(whole["one"])


@fault("S02", "`apply`: only `.partial` files are left; finished periods stay, and the files in the end are those of a run without kills")
def test_killed_at_any_moment_and_started_again(workspace, whole):
    chance = random.Random(5)
    for _ in range(4):
        process = start(workspace)
        assert process.stdout.readline() == "block\n", process.stderr.read()
        time.sleep(chance.uniform(0.0, 0.6))
        process.kill()
        process.communicate()
        for path in (workspace / "predictions").rglob("prediction.json"):
            assert len(fields(path.parent, "tas")) == 224
    done = start(workspace, 0.0)
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert contents(workspace / "predictions" / NET) == contents(whole["yearly"])


@fault("S01", "`apply` stops after the block in work with exit 75; finished periods stay, and the same command goes on")
def test_a_signal_stops_it_between_blocks(workspace, whole):
    process = start(workspace, 0.1)
    for _ in range(6):
        assert process.stdout.readline() == "block\n", process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75 and "stopped by SIGTERM" in err and "run the same command again" in err
    left = sorted(path.name for path in (workspace / "predictions").rglob("*") if path.is_file())
    assert left and not [name for name in left if name.endswith((".partial", "lock"))]
    assert "4 predictions" not in apply(workspace, YEARLY, runs=[NET])
    assert contents(workspace / "predictions" / NET) == contents(whole["yearly"])


@fault("S10", "several `apply` on one workspace share the list: each period is done once, by whoever claims it first")
def test_processes_share_the_list(workspace, whole):
    crew = [start(workspace, 0.03) for _ in range(2)]
    blocks = []
    for process in crew:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        blocks.append(out.count("block"))
    assert sum(blocks) == 4 * 8 * 4 and min(blocks) > 0, "a period was done twice, or one process did nothing"
    assert contents(workspace / "predictions" / NET) == contents(whole["yearly"])


def claim(folder, name, *, host, pid):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"host": host, "pid": pid, "since": 1.0, "id": "x"}))


@fault("S11", "`apply` goes on with the period of a dead process, and leaves alone what a live one has claimed")
def test_what_others_have_claimed(workspace, monkeypatch):
    folder = workspace / "predictions" / NET / "RCM_A_perfect"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    claim(folder, ".20000101-20001007.lock", host=socket.gethostname(), pid=ended.pid)
    claim(folder, ".20010101-20011007.lock", host="node17", pid=4)
    lines = apply(workspace, YEARLY, runs=[NET], wait=False)["predictions"]
    assert [line for line in lines if "1 of 8 periods left, in work by process 4 on node17" in line and "RCM_A_perfect" in line]
    assert sum("written" in line for line in lines) == 3 and not (folder / "prediction.json").exists()
    status = workspace_status(config(workspace, **YEARLY))["predictions"]
    assert "in work: process 4 on node17; 7 periods done" in next(line for line in status if f"{NET}/RCM_A_perfect" in line)
    monkeypatch.setattr(share, "LOOK_SECONDS", 0.2)
    freed = threading.Timer(1.0, (folder / ".20010101-20011007.lock").unlink)
    freed.start()
    assert "written" in apply(workspace, YEARLY, runs=[NET])["predictions"][0]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@fault("S08", "`apply`: exit 1 with the path and the free space; what was half-written is removed, finished periods stay")
def test_a_limit_on_file_sizes(workspace):
    process = start(workspace, 0.0, {"block_days": 50}, preexec_fn=limited)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "cannot write" in err and "GB free" in err and "Traceback" not in err
    left = [path for path in (workspace / "predictions").rglob("*") if path.is_file()]
    assert not left, left


@fault(
    "O01", "a complete prediction of the same recipe is left alone; another one, also in its layout, is refused with the difference: exit 3"
)
def test_another_layout_is_another_recipe_and_its_files_go(workspace):
    apply(workspace, {}, runs=[NET], sources=["RCM_A"])
    with pytest.raises(OutputExistsError) as caught:
        apply(workspace, {"years_per_file": 4}, runs=[NET], sources=["RCM_A"])
    assert "years_per_file" in " ".join(caught.value.findings)
    apply(workspace, {"years_per_file": 4}, runs=[NET], sources=["RCM_A"], overwrite=True)
    folder = workspace / "predictions" / NET / "RCM_A_perfect"
    assert len(list(folder.glob("pr_*.nc"))) == 4 and not (folder / "pr.nc").exists()
    assert "complete already" in apply(workspace, {"years_per_file": 4}, runs=[NET], sources=["RCM_A"])["predictions"][0]


def test_the_lock_of_a_process_killed_at_the_end_goes(workspace):
    apply(workspace, {}, runs=[NET], sources=["RCM_A"])
    lock = workspace / "predictions" / NET / "RCM_A_perfect" / ".lock"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid, stays in ((os.getpid(), True), (ended.pid, False)):
        lock.write_text(json.dumps({"host": socket.gethostname(), "pid": pid}))
        assert "complete already" in apply(workspace, {}, runs=[NET], sources=["RCM_A"])["predictions"][0]
        assert lock.exists() == stays


def test_finished_periods_of_another_recipe_are_refused_too(workspace):
    apply(workspace, YEARLY, runs=[NET], sources=["RCM_A"])
    folder = workspace / "predictions" / NET / "RCM_A_perfect"
    (folder / "prediction.json").unlink()  # as if the last period were still to be done
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nc")}
    other = {**YEARLY, "significant_bits": 8}
    with pytest.raises(OutputExistsError) as caught:
        apply(workspace, other, runs=[NET], sources=["RCM_A"])
    assert "significant_bits" in " ".join(caught.value.findings)
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nc")}
    assert "written" in apply(workspace, other, runs=[NET], sources=["RCM_A"], overwrite=True)["predictions"][0]


def test_status_tells_what_is_done_and_left(workspace):
    apply(workspace, {}, runs=[NET], sources=["RCM_A"])
    found = workspace_status(config(workspace))
    assert found["pairs"].startswith("not begun") and f"{NET}: done" in found["runs"]
    assert [line for line in found["predictions"] if line.startswith(f"{NET}/RCM_A_perfect: done")]
    assert found["counts"] == "1 done" and found["scores"].startswith("not begun")


@fault("S13", "the batch is halved until it fits, with a warning; a single day that does not fit is refused with exit 1")
def test_a_gpu_with_too_little_memory(workspace, whole, monkeypatch, caplog):
    work = predict._emulate

    def small(run, size, arrays):
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(run, size, arrays)

    monkeypatch.setattr(predict, "_emulate", small)
    limit = 16
    with caplog.at_level("WARNING", logger="downscale"):
        apply(workspace, {}, runs=[NET], sources=["RCM_A"])
    assert "16 days at once" in caplog.text
    found = fields(workspace / "predictions" / NET / "RCM_A_perfect", "tas")
    np.testing.assert_allclose(found, fields(whole["one"] / "RCM_A_perfect", "tas"), rtol=1e-5)
    limit = 0
    with pytest.raises(DownscaleError, match="too little memory for a single day"):
        apply(workspace, {}, runs=[NET], sources=["RCM_B"])


# --- the parts ---------------------------------------------------------------------------------------------------------------


def test_ahead_gives_all_in_order_and_the_error_where_it_belongs():
    assert list(ahead(range(20), 2)) == list(range(20))

    def broken():
        yield 1
        raise InputDataError("bad file")

    found = ahead(broken())
    assert next(found) == 1
    with pytest.raises(InputDataError, match="bad file"):
        next(found)
    assert list(ahead([])) == []


def test_ahead_reads_no_further_than_it_may_and_ends_with_its_reader():
    read = []
    found = ahead((read.append(number) or number for number in range(1000)), 1)
    assert next(found) == 0
    time.sleep(0.3)
    assert len(read) <= 4
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "reader"]


def test_behind_works_in_order_and_tells_its_error():
    done = []
    with Behind(lambda *values: done.append(values)) as write:
        for number in range(5):
            write(number, -number)
    assert done == [(number, -number) for number in range(5)]

    def full(number):
        if number == 2:
            raise OSError("disk full")
        done.append(number)

    with pytest.raises(OSError, match="disk full"), Behind(full) as write:
        for number in range(50):
            write(number)
    assert done[-1] == 1
    with pytest.raises(KeyError), Behind(done.append):
        raise KeyError("the caller's own")
    assert not [thread for thread in threading.enumerate() if thread.name == "writer"]


def test_days_that_files_lack_are_put_in_but_not_years():
    days = np.array([20000227, 20000228, 20000302, 20010302, 20020303])
    found = with_missing(days, "noleap")
    assert found[:4].tolist() == [20000227, 20000228, 20000301, 20000302]
    assert found[-2:].tolist() == [20010302, 20020303] and len(found) == 4 + 365 + 1
    assert with_missing(np.array([20000228, 20000302]), "standard").tolist() == [20000228, 20000229, 20000301, 20000302]


def test_the_lead_time_of_a_decadal_prediction():
    days = np.array([19601101, 19601102, 19601231, 19610101])
    series = lead_time({"sub_experiment_id": "s1960"}, days, "standard")["lead_time"]
    assert series.values.tolist() == [0.5, 1.5, 60.5, 61.5] and series.values.dtype == np.float32
    assert series.attributes["standard_name"] == "forecast_period" and series.attributes["forecast_reference_time"] == "1960-11-01"
    later = lead_time({"sub_experiment_id": "s1960", "start_date": "19601101"}, days[2:], "standard")["lead_time"]
    assert later.values.tolist() == [60.5, 61.5]
    assert lead_time({"source_id": "X"}, days, "standard") == lead_time({"sub_experiment_id": "none"}, days, "standard") == {}
    for facets in ({"sub_experiment_id": "first"}, {"sub_experiment_id": "s1990"}, {"sub_experiment_id": "s1960", "start_date": "1960-11"}):
        with pytest.raises(InputDataError):
            lead_time(facets, days, "standard")
