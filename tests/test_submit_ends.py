"""How jobs end: a process of several that dies, a program that is not there, SIGKILL, an end that nobody could note; what status says."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import fault
from submit_world import Node, planned, status, write_config

from downscale.hpc.scripts import render

SEVERAL = r"""
while [[ "$1" == --* ]]; do shift; done
for rank in 1 0; do
  SLURM_PROCID=$rank "$@" 2>&1 | sed "s/^/$rank: /"
  case ${PIPESTATUS[0]} in
    0) ;;
    137) echo "srun: error: n1: task $rank: Killed" >&2 ;;
    *) echo "srun: error: n1: task $rank: Exited with exit code ${PIPESTATUS[0]}" >&2 ;;
  esac
done
exit 137"""
"""srun of two processes, one after the other, with its own words; SLURM ends the one that is left."""


def write_log(chain, name: str, *lines: str) -> Path:
    path = chain.workspace / "slurm" / "logs" / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_those_that_are_left_do_not_wait_for_ever(tmp_path):
    """As long as the first one may need to save, when all were told to stop."""
    for warning, wait in ((30, 60), (300, 300)):
        (job,), setting = planned(write_config(tmp_path, warning_seconds=warning, jobs={"train": {"tasks": 2}}), "train")
        script = render(job, setting)
        assert f"--kill-on-bad-exit=0 --wait={wait} --label" in script
        assert '  exec "$@" >' in script  # with control groups SLURM signals only the task itself, not what it has started


@fault("S06", "a process that dies without a word gets one, which names it and cites its last line")
@pytest.mark.parametrize(("how", "told"), [("exit 1", "Exited with exit code 1"), ("kill -9 $$", "Killed")])
def test_a_process_that_dies_without_a_word(tmp_path, tools, how, told):
    node = Node(tmp_path, tools, jobs={"train": {"tasks": 2, "cpus": 1}})
    tools("srun", SEVERAL)
    python = node.config.parent / "venv" / "bin" / "python"
    dies = f"echo 'Traceback ...'; echo 'ImportError: libx.so'; {how}"
    python.write_text(f"#!/bin/bash\n[ $SLURM_PROCID = 1 ] && {{ {dies}; }}\necho 'error: another process has ended'; kill -9 $$\n")
    logs = node.config.parent / "results" / "slurm" / "logs"
    logs.mkdir(parents=True)
    (logs / "0001-01-train.5.rank1.log").write_text("error: stopped by SIGUSR1 in epoch 1, everything saved\n")  # before it went on
    code, state = node.run(137, "train")
    assert code == 137 and state["state"] == "failed"
    word = f"error: process 1 has ended (SLURM: {told}); it said last: ImportError: libx.so"
    assert word in node.said and node.said.count("error: process") == 1
    assert sorted(path.name for path in logs.iterdir()) == ["0001-01-train.5.rank0.log", "0001-01-train.5.rank1.log"]


@pytest.mark.parametrize("code", [75, 138])
def test_a_process_that_was_told_to_stop_needs_no_such_word(tmp_path, tools, code):
    node = Node(tmp_path, tools, jobs={"train": {"tasks": 2, "cpus": 1}}, requeue=False)
    for name in ("scontrol", "squeue"):
        tools(name)
    tools("sbatch", "echo 9")
    tools("srun", SEVERAL.replace("exit 137", f"exit {code}"))
    ended, state = node.run(code, "train")
    assert (ended, state["state"]) == (0, "continued") and "error: process" not in node.said


def test_a_python_that_is_not_there(tmp_path, tools):
    node = Node(tmp_path, tools)
    (node.config.parent / "venv" / "bin" / "python").unlink()
    code, state = node.run(0, "train")
    assert (code, state["state"], state["code"]) == (5, "failed", 5)
    assert f"error: the environment cannot be set up: {node.config.parent}/venv/bin/python is not there" in node.said


# --- what status says -------------------------------------------------------------------------------------------------------------


def test_killed_in_its_step(chain, tools):
    """The script lives on and notes 137; whether memory was short only SLURM may know."""
    tools("squeue")
    tools("sacct", "exit 1")
    tools("scontrol", "exit 1")
    chain("01-prepare", "failed", code=137)
    log = write_log(chain, "0001-01-prepare.10.log", "error: stopped by SIGUSR1; what was finished is kept", "prepare: 3 of 9")
    assert status(chain)[0] == f"killed: out of memory, or by hand: raise hpc.jobs.prepare.memory on n1 ({log})"
    tools("sacct", f"echo '10|OUT_OF_MEMORY|None|n1|0:125|{chain.workspace}'")
    assert status(chain)[0] == f"killed: out of memory: raise hpc.jobs.prepare.memory on n1 ({log})"
    tools("sacct", f"echo '10|FAILED|None|n1|137:0|{chain.workspace}'")
    assert status(chain)[0].startswith("killed: out of memory, or by hand")
    write_log(chain, "0001-01-prepare.10.log", "error: process 1 has ended (SLURM: Killed); it said last: epoch 3")
    assert status(chain)[0].startswith("failed: exit code 137 on n1: process 1 has ended (SLURM: Killed); it said last: epoch 3")


def test_the_log_of_the_job_itself_is_cited(chain, tools):
    """Not those of Dask or of the processes, nor those of another job or task, though they are newer."""
    tools("squeue")
    chain("01-prepare", "failed", code=4)
    log = write_log(chain, "0001-01-prepare.10.log", "error: no such file")
    for other in ("10.workers", "10.scheduler", "10.rank0", "10_1", "10.b.11"):
        write_log(chain, f"0001-01-prepare.{other}.log", "error: something else")
    assert status(chain)[0] == f"failed: exit code 4 on n1: no such file ({log})"
    chain("02-apply-shares.1", "failed", code=4, job="11")
    log = write_log(chain, "0001-02-apply-shares.11_1.log", "error: this one")
    write_log(chain, "0001-02-apply-shares.11_0.log", "error: that one")
    assert f"11_1: exit code 4 on n1: this one ({log})" in status(chain)[1]


def test_a_program_that_another_node_has_not(chain, tools):
    tools("squeue")
    chain("01-prepare", "failed", code=2)
    write_log(
        chain,
        "0001-01-prepare.10.log",
        "slurmstepd-n1: error: execve(): /x/venv/bin/python: No such file or directory",
        "srun: error: n1: task 0: Exited with exit code 2",
    )
    assert "exit code 2 on n1: execve(): /x/venv/bin/python: No such file or directory (" in status(chain)[0]


def test_a_job_that_could_not_note_its_end(chain, tools):
    tools("squeue")
    tools("scontrol", "exit 1")
    tools("sacct", f"echo '10|COMPLETED|None|n1|0:0|{chain.workspace}'")
    chain("01-prepare", "running")
    assert status(chain)[0].startswith("done: SLURM says so")


def test_whose_lock_it_is(tmp_path, monkeypatch):
    """Prepare and evaluate hold the same one."""
    from downscale.apply import status as state
    from downscale.config.load import load_config
    from downscale.errors import InputDataError
    from downscale.hpc.locks import folder_lock

    def attributes(path: Path) -> dict:
        if not path.exists():
            raise InputDataError("no store")
        return {"groups": ["R"]}

    monkeypatch.setattr(state, "read_attributes", attributes)
    cfg, results = load_config(write_config(tmp_path)), tmp_path / "results"

    def told() -> tuple[str, str]:
        found = state.workspace_status(cfg)
        return found["pairs"].partition(":")[0], found["scores"].partition(":")[0]

    with folder_lock(results):
        assert told() == ("in work", "not begun")
        (results / "pairs.zarr").mkdir()
        assert told() == ("done", "in work") and state.workspace_status(cfg)["pairs"] == "done: R"
        (results / "pairs.zarr.partial").mkdir()  # built anew
        assert told()[1] == "not begun" and "process" in state.workspace_status(cfg)["pairs"]
        (results / "pairs.zarr.partial").rmdir()
        (results / "scores").mkdir()
        (results / "scores" / "scores.csv").touch()
        assert state.workspace_status(cfg)["scores"].startswith("done; in work again: process")
    assert told() == ("done", "done")
