"""prepare --part: several commands build one store together, each its own shards, and a last one finishes it."""

from __future__ import annotations

import shutil
import signal

import pytest
from conftest import run_cli
from faults import assert_refused, fault
from prepare_world import bench, noted_config, noted_world, same, small_shards, whole_store  # noqa: F401

from downscale.errors import ConfigError
from downscale.pairs.parts import Part, setting_up

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path, noted_world):  # noqa: F811
    return noted_config(tmp_path, noted_world)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results" / "pairs.zarr"


@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
def test_each_shard_belongs_to_one_part_and_parts_weigh_the_same(of):
    shards = [(("a", number), 3.0) for number in range(20)] + [(("b", number), 1.0) for number in range(12)]
    parts = [Part(number, of).own(shards) for number in range(1, of + 1)]
    assert [key for part in parts for key in part] == [key for key, _ in shards]
    weights = [sum(weight for key, weight in shards if key in part) for part in parts]
    assert max(weights) - min(weights) <= 2 * 3.0


def test_nothing_to_read_belongs_to_one_part_too():
    assert sorted(key for number in (1, 2) for key in Part(number, 2).own([("a", 0.0)])) == ["a"]
    assert Part(1, 2).own([]) == []


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1.0/2"])
def test_what_is_no_part(text):
    with pytest.raises(ConfigError):
        Part.parse(text)
    assert Part.parse("2/16") == Part(2, 16)


def test_three_parts_at_once_and_the_last_command_finishes(config, store, bench, whole_store, small_shards):  # noqa: F811
    processes = [bench.start("prepare", config, "--part", f"{number}/3", "--workers", 1, slow=0.02) for number in (1, 2, 3)]
    said = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert "when all parts are done" in said[0][0] and "1 of 3: " in said[0][0]
    assert len(bench.told) == len({line[:2] for line in bench.told}) == 24, "each shard is done once"
    assert len(bench.workers) == 3
    assert not store.exists() and not list(store.parent.glob(".*lock"))
    assert "begun: 24 shards done" in run_cli("status", config).stdout
    again = run_cli("prepare", config, "--part", "2/3")
    assert again.exit_code == 0 and " 0 of them done now" in again.stdout
    merged = bench.run("prepare", config)
    assert len(bench.told) == 24, "the last command has nothing to read"
    same(whole_store, store)
    late = run_cli("prepare", config, "--part", "1/3")
    assert late.exit_code == 0 and "nothing to do" in late.stdout and merged.returncode == 0


@fault("S02", "a part of `prepare --part` that is killed: the same part goes on, or the last command does what it left")
def test_a_part_that_is_killed_with_its_workers_and_one_that_never_ran(config, store, bench, whole_store, small_shards):  # noqa: F811
    process = bench.start("prepare", config, "--part", "2/3", "--workers", 2, slow=0.2)
    bench.wait_for(1, process)
    assert bench.stop(process, signal.SIGKILL)[0] == -signal.SIGKILL
    bench.run("prepare", config, "--part", "1/3")
    assert store.with_name("pairs.zarr.partial").is_dir()
    assert run_cli("prepare", config).exit_code == 0
    same(whole_store, store)
    assert not list(store.parent.glob(".*lock"))


@fault("S01", "`prepare --part` keeps its shards and exits 75, as the whole command does")
@fault("S10", "the whole command and its parts exclude each other, and parts of another number: exit 3 with the process")
def test_who_may_work_beside_a_part(config, store, bench):  # noqa: F811
    process = bench.start("prepare", config, "--part", "1/2", slow=1.5)
    bench.wait_for(1, process)
    assert_refused(run_cli("prepare", config), "another process is writing", "part 1-of-2", str(process.pid), code=3)
    assert_refused(run_cli("prepare", config, "--part", "1/2"), "another process is writing", str(process.pid), code=3)
    assert_refused(run_cli("prepare", config, "--part", "2/3"), "part 1-of-2", str(process.pid), code=3)
    assert f"part 1-of-2, process {process.pid}" in run_cli("status", config).stdout
    other = run_cli("prepare", config, "--part", "2/2", "--set", "upscale.smooth=3")
    assert_refused(other, "parts of another recipe", code=3)
    code, err = bench.stop(process, signal.SIGUSR1)
    assert code == 75 and "stopped by SIGUSR1" in err
    assert store.with_name("pairs.zarr.partial").is_dir()


def test_a_part_beside_the_whole_command(config, bench):  # noqa: F811
    process = bench.start("prepare", config, slow=0.3)
    bench.wait_for(1, process)
    assert_refused(run_cli("prepare", config, "--part", "1/2"), "another process is writing", str(process.pid), code=3)
    bench.stop(process, signal.SIGKILL)
    assert run_cli("prepare", config, "--part", "2/2").exit_code == 0


def test_parts_that_find_nothing_but_faults_leave_nothing(config, store, noted_world):  # noqa: F811
    assert_refused(run_cli("prepare", config, "--part", "0/2"), "is not I/N", code=2)
    shutil.copytree(noted_world, store.parent.parent / "data", copy_function=lambda source, to: shutil.copyfile(source, to))
    text = config.read_text().replace(str(noted_world), str(store.parent.parent / "data"))
    config.write_text(text)
    damaged = next((store.parent.parent / "data" / "rcm" / "VGCM-A").glob("pr_*.nc"))
    with damaged.open("r+b") as stream:
        stream.truncate(damaged.stat().st_size // 2)
    assert run_cli("prepare", config, "--part", "1/1").exit_code == 4
    assert not store.with_name("pairs.zarr.partial").exists()


def test_a_part_waits_while_another_sets_the_store_up(config, store, bench):  # noqa: F811
    store.parent.mkdir()
    with setting_up(store.parent):
        process = bench.start("prepare", config, "--part", "1/2")
        while not (store.parent / ".part-1-of-2.lock").exists():
            assert process.poll() is None, process.communicate()
        assert not store.with_name("pairs.zarr.partial").exists()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert [path.name for path in store.parent.iterdir()] == ["pairs.zarr.partial"]
