"""The same entry of ML-Bench again: after a stop, and with other experiments."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from conftest import run_cli

from downscale.config.load import load_config
from downscale.errors import Stopped
from downscale.mlbench import entry as entries
from downscale.mlbench.entry import Entry
from downscale.mlbench.fixture import Extent, write_fixture
from downscale.profiles.mlbench import EXPERIMENTS

pytestmark = pytest.mark.slow

QUICK = ("--set", "model.width=4", "--set", "train.epochs=1", "--set", "train.batch_size=16", "--device", "cpu", "--domain", "SA", "-q")


def test_seconds_of_a_step_are_those_of_all_its_attempts(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(entries.time, "monotonic", lambda: clock[0])

    def attempt(seconds, stop=False):
        one = Entry(SimpleNamespace(name="SA"), tmp_path, None, None)
        with one.timed("train ESD"):
            clock[0] += seconds
            if stop:
                raise Stopped("stopped by SIGTERM")
        return one.seconds["train ESD"]

    for seconds in (28.0, 4.5):
        with pytest.raises(Stopped):
            attempt(seconds, stop=True)
    assert attempt(17.3) == 49.8
    assert attempt(0.4) == 49.8
    with pytest.raises(Stopped):
        attempt(10.0, stop=True)
    assert attempt(60.0) == 70.0
    assert json.loads((tmp_path / "seconds.json").read_text())["train ESD"] == 70.0


def test_an_experiment_may_be_added_later(tmp_path):
    write_fixture(tmp_path / "data", domains=["SA"], extent=Extent(16, years=4, days=2))
    command = ("mlbench", "run", tmp_path / "data", "--out", tmp_path / "entry", *QUICK)
    one = run_cli(*command, "--experiment", EXPERIMENTS[0])
    assert one.exit_code == 0, one.stderr
    path = tmp_path / "entry-work/SA"
    weights = path / "results/runs" / EXPERIMENTS[0] / "model.safetensors"
    before = weights.stat().st_mtime_ns
    both = run_cli(*command)
    assert both.exit_code == 0, both.stderr
    assert weights.stat().st_mtime_ns == before
    assert len(list((tmp_path / "entry").rglob("*.nc"))) == 24
    assert load_config(path / "config.yaml").split.test == [1980, "2098-2099"]
    other = run_cli(*command, "--set", "model.width=6")
    assert other.exit_code == 3 and "another --out" in other.stderr and "--name" not in other.stderr, other.stderr
