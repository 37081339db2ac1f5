"""Locks and signals, with real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from faults import fault

from downscale.errors import OutputExistsError
from downscale.hpc import locks, signals
from downscale.hpc.locks import STALE_SECONDS, folder_lock, holder
from downscale.hpc.signals import Interrupted, StopFlag, interruptible


def test_lock_is_held_and_released(tmp_path):
    with folder_lock(tmp_path):
        owner = json.loads((tmp_path / ".lock").read_text())
        assert owner["pid"] == os.getpid()
        with pytest.raises(OutputExistsError) as caught, folder_lock(tmp_path):
            pass
        assert str(os.getpid()) in caught.value.message and "--force-unlock" in caught.value.hint
    assert not (tmp_path / ".lock").exists()


def test_two_processes_at_once(tmp_path):
    code = (
        "import time; from pathlib import Path; from downscale.hpc.locks import folder_lock\n"
        f"with folder_lock(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(30)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(OutputExistsError), folder_lock(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with folder_lock(tmp_path):  # the holder was killed: its lock is recognised as dead
        pass


def test_stale_lock_of_another_host(tmp_path):
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": socket.gethostname() + "-other", "pid": 1, "job": "77", "since": 0}))
    with pytest.raises(OutputExistsError) as caught, folder_lock(tmp_path):
        pass
    assert "job 77" in caught.value.message
    old = time.time() - STALE_SECONDS - 5
    os.utime(path, (old, old))
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize(("said", "held"), [("SUSPENDED", True), ("RUNNING", False), ("", False)])
def test_a_silent_lock_of_a_job_that_stands_still(tmp_path, monkeypatch, said, held):
    """Silent for more than ten minutes, on another node."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\necho {said}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "job": "77_2", "restart": ""}))
    old = time.time() - 700
    os.utime(path, (old, old))
    assert bool(holder(path)) == held


def test_the_same_number_in_another_container_is_another_process(tmp_path):
    path = tmp_path / ".lock"
    for namespace, held in (("pid:[1]", False), (locks._namespace(), True)):
        path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "namespace": namespace}))
        old = time.time() - 700
        os.utime(path, (old, old))
        assert bool(holder(path)) == held


def test_the_heart_beats_on_when_the_file_server_was_away(tmp_path, monkeypatch):
    path, failures = tmp_path / ".lock", iter([OSError(116, "Stale file handle")])
    real = os.utime

    def utime(*arguments, **options):
        for error in failures:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.02)
    with folder_lock(tmp_path):
        real(path, (1.0, 1.0))
        monkeypatch.setattr(os, "utime", utime)
        until = time.monotonic() + 20
        while path.stat().st_mtime == 1.0 and time.monotonic() < until:
            time.sleep(0.02)
        assert path.stat().st_mtime > 1.0


def test_force_unlock(tmp_path):
    (tmp_path / ".lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": 0}))
    with folder_lock(tmp_path, force=True):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_first_signal_raises_the_flag(number):
    before = signal.getsignal(number)
    with StopFlag() as stop:
        assert not stop.set
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert stop.set and stop.name == number.name
    assert signal.getsignal(number) == before


def test_second_signal_ends_the_process():
    """The second is sent once the first was heard: two that wait for a starved process together are one to the kernel."""
    code = (
        "import time\nfrom downscale.hpc.signals import StopFlag\n"
        "with StopFlag() as s:\n    print('ready', flush=True)\n"
        "    while not s.set: time.sleep(0.01)\n"
        "    print('heard', flush=True)\n    time.sleep(120)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for line in ("ready\n", "heard\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM


@fault("S01", "SLURM's second SIGTERM, milliseconds after the first, does not end what the first has told to save")
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("flag", [True, False])
def test_slurm_says_it_twice(monkeypatch, flag, first):
    """Within milliseconds, also where the first was heard within a step and the second comes after it."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(signals, "_heard", (0, 0.0))
    with interruptible():
        if flag:
            with StopFlag() as stop:
                os.kill(os.getpid(), first)
                os.kill(os.getpid(), signal.SIGTERM)
            assert stop.set
        else:
            with pytest.raises(Interrupted):
                os.kill(os.getpid(), first)
                time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        monkeypatch.setattr(signals, "_ECHO_SECONDS", 0.0)
        monkeypatch.setattr(os, "_exit", lambda code: (_ for _ in ()).throw(SystemExit(code)))
        with pytest.raises(Interrupted if flag else SystemExit):  # much later
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)


SLOW = """
import sys, time
import typer
from downscale.cli.console import Options, run_stage
def work(progress):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleared up", flush=True)
        if "stubborn" in sys.argv:
            time.sleep(60)
try:
    run_stage("test", Options(), work)
except typer.Exit as error:
    sys.exit(error.exit_code)
"""


def stopped_outside_a_step(*numbers: signal.Signals, how: str = "") -> tuple[int, str, str]:
    process = subprocess.Popen([sys.executable, "-c", SLOW, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    for number in numbers:
        process.send_signal(number)
        if how:
            said += process.stdout.readline()
            how = ""
    out, err = process.communicate(timeout=60)
    return process.returncode, said + out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_outside_every_step_clears_up_and_exits_75(number):
    code, out, err = stopped_outside_a_step(number)
    assert code == 75 and "cleared up" in out
    assert f"error: stopped by {number.name}" in err and "run the same command again" in err and "Traceback" not in err


def test_a_second_signal_does_not_wait_for_the_clearing_up():
    code, out, _ = stopped_outside_a_step(signal.SIGUSR1, signal.SIGTERM, how="stubborn")
    assert code == 128 + signal.SIGTERM and "cleared up" in out


def test_within_a_step_the_flag_is_stronger():
    with interruptible():
        with StopFlag() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.01)
            assert stop.set
        with pytest.raises(Interrupted, match=str(int(signal.SIGTERM))):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


SWALLOWED = """
import ctypes, os, signal, sys
import typer
from downscale.cli.console import Options, run_stage
from downscale.errors import InputDataError
from downscale.hpc.signals import StopFlag

def told():
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(1000):
        pass

def work(progress):
    ctypes.CFUNCTYPE(None)(told)()  # as PROJ calls back: the exception ends here
    print("went on", flush=True)
    if sys.argv[1] == "library":
        raise RuntimeError("NetCDF: Not a valid ID")
    if sys.argv[1] == "refused":
        raise InputDataError("the file cannot be opened")
    if sys.argv[1] == "step":
        with StopFlag() as stop:
            print("set" if stop.set else "lost", flush=True)
    return {"artefact": None}
try:
    run_stage("test", Options(), work)
except typer.Exit as error:
    sys.exit(error.exit_code)
"""


@fault("S01", "a signal that a library swallows, or makes an error of, is not lost: exit 75 all the same")
@pytest.mark.parametrize("what", ["library", "refused", "step", "done"])
def test_a_signal_whose_exception_a_library_swallows(what):
    done = subprocess.run([sys.executable, "-c", SWALLOWED, what], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("went on") and "Interrupted" in done.stderr
    if what == "step":
        assert "set" in done.stdout
    assert done.returncode == (75 if what in ("library", "refused") else 0), done.stderr
    assert ("error: stopped by SIGUSR1" in done.stderr) == (what in ("library", "refused"))


TWICE = """
import os, signal, time
import downscale.cli.console as console
from downscale.cli import app
from downscale.hpc.startup import begin
begin()
shown = console.show_error
def late(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)  # SLURM's second one, as late as it can be
    time.sleep(0.05)
    shown(*arguments)
console.show_error = late
def work(progress):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)
try:
    console.run_stage("test", console.Options(), work)
except console.typer.Exit as error:
    raise SystemExit(error.exit_code)
"""


@fault("S01", "a signal that comes again while a command says why it stopped changes neither the words nor the exit code 75")
def test_a_signal_while_the_last_words_are_said():
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 75 and "stopped by SIGTERM" in done.stderr, (done.returncode, done.stderr)


def test_what_one_flag_was_told_after_its_last_step_the_next_one_knows():
    with interruptible():
        with StopFlag() as first:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.01)
            assert first.set
        with StopFlag() as second:
            assert second.set and second.name == "SIGUSR1"
    with interruptible(), StopFlag() as third:
        assert not third.set


def test_a_step_elsewhere_counts_as_one_here(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 300))
    flag = StopFlag.in_job(60.0)
    assert not flag.set
    flag.took(200.0)
    assert not flag.set
    flag.took(250.0)
    assert flag.set and flag.name == "the end of the job"
    fresh = StopFlag.in_job(60.0)
    fresh.took(250.0)
    fresh.begin()
    assert not fresh.set
