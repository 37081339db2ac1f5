"""Scripts of jobs, run as SLURM would: what the command gets, and what happens when it stops or fails."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from submit_world import Node, planned, write_config

from downscale.errors import ConfigError
from downscale.hpc.scripts import render


def test_the_command_gets_its_words_as_they_are(tmp_path, tools):
    node = Node(tmp_path, tools, jobs={"prepare": {"cpus": 2, "array": 2}})
    code, state = node.run(0, "prepare", SLURM_ARRAY_TASK_ID="1", SLURM_ARRAY_JOB_ID="4")
    assert (code, state["state"], state["job"], state["restarts"]) == (0, "done", "4", 0), node.said
    assert node.arguments() == ["-P", "-m", "downscale", "prepare", str(node.config), "--workers", "2", "--part", "2/2"]


def test_a_failure_is_kept_as_it_is(tmp_path, tools):
    code, state = Node(tmp_path, tools).run(4, "prepare")
    assert (code, state["state"], state["code"]) == (4, "failed", 4)


@pytest.mark.parametrize("exit_code", [75, 138])
def test_a_stopped_command_goes_back_to_the_queue(tmp_path, tools, exit_code):
    tools("scontrol")
    tools("sleep")
    node = Node(tmp_path, tools)
    code, state = node.run(exit_code, "train", SLURM_RESTART_COUNT="2")
    assert (code, state["state"], state["restarts"]) == (75, "requeued", 2), node.said
    assert tools.calls()[-2:] == ["scontrol requeue 5", "sleep 300"]  # it waits to be ended


@pytest.mark.parametrize("forbidden", [False, True])
def test_or_submits_itself_again_and_takes_those_that_wait_along(tmp_path, tools, forbidden):
    """Also where the site says that it may go back to the queue, and then it may not."""
    node = Node(tmp_path, tools, requeue=forbidden)
    tools("scontrol", '[ "$1" != requeue ]')
    tools("sbatch", f'env | grep -c ^SLURM_ >>{tools.log}; echo "9;cluster"')
    tools("squeue", "echo '6|afterok:5(unfulfilled)'; echo '7|afterok:15(unfulfilled)'; echo '8|afterok:3:5_*(unfulfilled)'")
    code, state = node.run(75, "train", arguments=["1"], SLURM_ARRAY_X="y")
    assert (code, state["state"], state["next"], state["restarts"]) == (0, "continued", "9", 1), node.said
    script = node.config.parent / "results" / "slurm" / "0001" / "01-train.sh"
    calls = [line for line in tools.calls() if not line.startswith("srun")]
    assert calls[forbidden] == f"sbatch --parsable {script} 2" and calls[forbidden + 1] == "0"
    assert calls[-2:] == [
        "scontrol update JobId=6 Dependency=afterok:5,afterok:9",
        "scontrol update JobId=8 Dependency=afterok:3:5,afterok:9",
    ]


def test_a_task_of_an_array_submits_itself_alone(tmp_path, tools):
    node = Node(tmp_path, tools, requeue=False, jobs={"apply": {"array": 4}})
    tools("sbatch", "echo 9")
    tools("scontrol")
    tools("squeue", "echo '6|afterok:4_*(unfulfilled)'")
    code, state = node.run(75, "apply", SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_JOB_ID="4")
    assert (code, state["state"], state["job"]) == (0, "continued", "4"), node.said
    assert any("--array=3" in line for line in tools.calls())
    assert tools.calls()[-1] == "scontrol update JobId=6 Dependency=afterok:4,afterok:9"


def test_it_does_not_go_on_for_ever_nor_after_cancel(tmp_path, tools):
    tools("scontrol")
    node = Node(tmp_path, tools, continuations=3)
    code, state = node.run(75, "train", SLURM_RESTART_COUNT="3")
    assert (code, state["state"]) == (75, "limit") and "hpc.continuations" in node.said
    (node.config.parent / "results" / "slurm" / "0001" / "cancelled").touch()
    code, state = node.run(75, "train")
    assert (code, state["state"]) == (75, "stopped")
    assert not [line for line in tools.calls() if line.startswith("scontrol")]


def test_an_environment_that_is_not_there(tmp_path, tools):
    node = Node(tmp_path, tools, environment={"venv": "venv", "lines": ["export A=1", "module load nothing  # here"]})
    code, state = node.run(0, "train")
    assert (code, state["state"], state["code"]) == (5, "failed", 5) and "module load nothing" in node.said
    assert not (tmp_path / "arguments").exists()


def test_an_environment_that_a_signal_ends_is_no_failure(tmp_path, tools):
    """A job that is cancelled, or whose node goes, while its environment is set up."""
    tools("scontrol")
    node = Node(tmp_path, tools, environment={"venv": "venv", "lines": ["kill $$; false"]})
    code, state = node.run(0, "train")
    assert (code, state["state"]) == (75, "stopped"), node.said


def test_a_container_sees_what_it_needs(tmp_path):
    environment = {"container": "image.sif", "bind": ["more"]}
    config = write_config(tmp_path, environment=environment, jobs={"train": {"gpus": 1}})
    found, setting = planned(config, "train")
    command = next(line for line in render(found[0], setting).splitlines() if line.startswith("command=("))
    words = shlex.split(command.removeprefix("command=(").removesuffix(")"))
    binds = [f"--bind={tmp_path / name}" for name in ("results", "", "rcm", "gcm", "more")]
    assert words[:3] == ["apptainer", "exec", "--nv"] and words[3 : 3 + len(binds)] == [bind.rstrip("/") for bind in binds]
    assert words[8:12] == [str(tmp_path / "image.sif"), "python", "-P", "-m"]
    with pytest.raises(ConfigError, match="signs of its own"):
        render(found[0], replace(setting, bind=["/data/a:b"]))


def test_several_ranks_have_a_log_each_and_the_failed_one_the_last_word(tmp_path, tools):
    node = Node(tmp_path, tools, jobs={"train": {"tasks": 2, "cpus": 1}})
    tools(
        "srun",
        'while [[ "$1" == --* ]]; do shift; done\n'
        'for rank in 0 1; do SLURM_PROCID=$rank "$@" 2>&1 | sed "s/^/$rank: /"; done; sleep 0.3; exit 1',
    )
    python = node.config.parent / "venv" / "bin" / "python"
    python.write_text(
        '#!/bin/bash\n[ $SLURM_PROCID = 1 ] && echo "error: another process of this training has ended" || echo "error: broken disk"\n'
    )
    code, state = node.run(1, "train")
    assert code == 1 and state["state"] == "failed" and node.said.strip().splitlines()[-1] == "error: broken disk", node.said
    logs = sorted((node.config.parent / "results" / "slurm" / "logs").glob("*.log"))
    assert [path.name for path in logs] == ["0001-01-train.5.rank0.log", "0001-01-train.5.rank1.log"]
