"""What status says of jobs, from what they wrote themselves and from SLURM."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import run_cli
from faults import fault
from submit_world import NUMBERS, status, write_config

from downscale.errors import EnvironmentMissingError
from downscale.hpc import jobs, slurm
from downscale.hpc.locks import holder


def test_status_from_our_own_files_alone(chain, nowhere):
    chain("01-prepare", "done", restarts=1)
    chain("02-apply-shares.0", "done", job="11")
    chain("02-apply-shares.1", "failed", code=4, job="11")
    (chain.workspace / "slurm" / "logs" / "0001-02-apply-shares.11_1.log").write_text("error: no such file\nsrun: error: task 0\n")
    prepare, apply, evaluate = status(chain)
    assert prepare == "done: 90 s on n1, continued 1 time"
    assert apply.startswith("1 done, 1 failed; 11_1: exit code 4 on n1: no such file (")
    assert evaluate == "not run: 02-apply-shares did not succeed"
    chain("01-prepare", "running")
    assert status(chain)[0] == "running: when it was last heard of on n1; SLURM does not answer here"
    chain("02-apply-shares.1", "stopped", job="11")
    assert "submit again" in status(chain)[1]


QUEUE = """cat <<END
10|RUNNING|None|(null)|n7
11_0|PENDING|Dependency|afterok:10(unfulfilled)|
11_1|PENDING|Dependency|afterok:10(unfulfilled)|
12|PENDING|Dependency|afterok:11_*(unfulfilled)|
END"""


def test_status_of_waiting_jobs(chain, tools):
    tools("squeue", QUEUE)
    assert status(chain) == ["running: on n7", "2 pending: waits for 01-prepare", "pending: waits for 02-apply-shares"]
    assert jobs.unfinished(chain.workspace) == ["12", "11", "10"]
    tools("squeue", "echo '10|PENDING|BeginTime||'; echo '11_[0-1]|PENDING|Dependency|x|'; echo '12|PENDING|QOSMaxJobsPerUserLimit||'")
    chain("01-prepare", "requeued", restarts=1)
    prepare, _, evaluate = status(chain)
    assert prepare.startswith("pending: SLURM lets a job") and prepare.endswith("continued 2 times")
    assert evaluate == "pending: QOSMaxJobsPerUserLimit"


@pytest.mark.parametrize("by", ["sacct", "scontrol"])
def test_status_of_killed_jobs(chain, tools, by):
    tools("squeue")
    tools(
        "sacct",
        "echo '10|TIMEOUT|None|n3'; echo '11_[0-1]|CANCELLED by 0|Dependency|'; echo '12|CANCELLED|None|'" if by == "sacct" else "exit 1",
    )
    tools(
        "scontrol",
        'case "$*" in *10) echo "JobId=10 JobState=TIMEOUT Reason=TimeLimit Dependency=(null) NodeList=n3";; '
        '*11) echo "JobId=11 ArrayJobId=11 ArrayTaskId=0-1 JobState=CANCELLED Reason=DependencyNeverSatisfied";; '
        "*) echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1;; esac",
    )
    chain("01-prepare", "running")
    prepare, apply, evaluate = status(chain)
    assert prepare == "killed: the time limit came before it could stop on n1"
    assert apply == "2 not run: 01-prepare did not succeed"
    assert evaluate == "not run: 02-apply-shares did not succeed"
    assert any(line.startswith("scontrol") for line in tools.calls()) == (by == "scontrol")


SACCT = """cat <<'END'
10|FAILED|None|n1|9:0|{here}
11_0|NODE_FAIL|None|n2|0:0|{here}
11_1|CANCELLED by 0|None|n1|0:0|{here}
12|CANCELLED|Dependency|None assigned|0:0|{here}
END"""
"""Recorded from SLURM 22.05 with slurmdbd (``sacct --noheader --parsable2 --allocations``), but for the numbers and the folder."""


def test_what_accounting_says(chain, tools):
    tools("squeue")
    tools("scontrol", "exit 1")
    tools("sacct", SACCT.format(here=chain.workspace))
    for key, job in (("01-prepare", "10"), ("02-apply-shares.0", "11"), ("02-apply-shares.1", "11")):
        chain(key, "running", job=job)
    prepare, apply, evaluate = status(chain)
    assert prepare == "killed: it ended before it could say why on n1 (exit code 9)"
    assert apply == "2 killed; 11_0: its node failed on n1"
    assert evaluate == "not run: 02-apply-shares did not succeed"
    for real, told in (
        ("FAILED|None|n1|0:9", "it ended before it could say why on n1 (signal 9)"),
        ("TIMEOUT|None|n1|0:0", "the time limit came before it could stop on n1"),
        ("PREEMPTED|None|n1|0:0", "another job took its place on n1"),
        ("CANCELLED by 0|None|None assigned|0:0", "cancelled on n1"),
        ("RUNNING|BeginTime|n2|0:0", "on n1"),  # sent back to the queue, and begun anew
        ("PENDING|BeginTime|None assigned|0:0", "SLURM lets a job that went back to the queue wait, about two minutes"),
    ):
        tools("sacct", f"echo '10|{real}|{chain.workspace}'")
        assert status(chain)[0].partition(": ")[2] == told, real
    tools("sacct", SACCT.format(here="/somewhere/else"))  # others' jobs of an earlier life of the cluster
    assert status(chain)[0] == "killed: without a word on n1: time, memory or its node; see its log"


def test_a_job_that_went_on_is_the_other_one(chain, tools):
    tools("squeue", "echo '20|PENDING|Priority||'; echo '11_0|PENDING|Dependency||'; echo '12|PENDING|Dependency||'")
    chain("01-prepare", "continued", next="20", restarts=0)
    assert status(chain)[0] == "pending: others come first, continued 1 time"
    tools("squeue", "echo '10|COMPLETED|None||'; echo '20|RUNNING|None||n2'")
    chain("01-prepare", "running", job="20", restarts=1)
    assert status(chain)[0] == "running: on n1, continued 1 time" and jobs.unfinished(chain.workspace) == ["20"]


def test_jobs_of_others_with_the_same_numbers(chain, tools):
    chain("01-prepare", "running")
    tools("squeue", f"echo '10|RUNNING|None||n1|/elsewhere'; echo '11_0|PENDING|Priority|||{chain.workspace}'")
    prepare, apply, _ = status(chain)
    assert prepare.startswith("killed: without a word") and "1 pending" in apply
    assert jobs.unfinished(chain.workspace) == ["11"]


def test_a_damaged_record_is_no_traceback(chain, nowhere):
    (chain.workspace / "slurm" / "0001" / "01-prepare.json").write_text("{")
    assert len(status(chain)) == 3
    (chain.workspace / "slurm" / "0001" / "chain.json").write_text("[]")
    assert status(chain) == []


def test_status_shows_the_jobs(tmp_path, tools):
    tools("squeue", "echo '100|PENDING|Priority|(null)|'")
    tools("scancel")
    tools("sbatch", NUMBERS)
    config = write_config(tmp_path)
    run_cli("submit", config, "evaluate", "--no-estimate")
    assert "01-evaluate (job 100): pending: others come first" in run_cli("status", config).output


def test_a_slow_slurm_is_no_answer(tools, monkeypatch):
    tools("squeue", "sleep 5")
    tools("sbatch", "sleep 5")
    monkeypatch.setattr(slurm, "_SECONDS", 0.2)
    assert slurm.queue(Path("/")) is None
    with pytest.raises(EnvironmentMissingError, match="refused"):
        slurm.sbatch(Path("x"), [], folder=Path("/"))


def test_python_m_downscale_is_the_command():
    import sys

    done = subprocess.run([sys.executable, "-P", "-m", "downscale", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("downscale ")


@fault(
    "S11",
    "on another node: taken over after a minute of silence where SLURM says that the job has ended, or this is the same job, begun anew",
)
@pytest.mark.parametrize(("said", "over"), [("FAILED", True), ("PENDING", True), ("RUNNING", False), ("", False)])
def test_the_lock_of_a_job_that_slurm_has_ended(tmp_path, tools, monkeypatch, said, over):
    """On another node, and silent for more than a minute, but not yet for ten."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    tools("squeue", f"echo {said}")
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "job": "77", "restart": ""}))
    old = time.time() - 90
    os.utime(path, (old, old))
    assert holder(path) == ("" if over else "process 1 on elsewhere, job 77")
    monkeypatch.setenv("SLURM_JOB_ID", "77")  # this is that job, on another node
    assert holder(path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not holder(path)


def test_a_scheduler_that_is_not_there():
    from downscale.hpc.dask_pool import Pool

    with pytest.raises(EnvironmentMissingError, match="no scheduler answers") as error:
        Pool(scheduler="nonsense://127.0.0.1:1")
    assert error.value.code == 5 and len(error.value.lines()) == 3
