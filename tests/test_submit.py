"""Jobs without a cluster: scripts for any path, chains, refusals, what a script does when its command stops, what status says."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import run_cli
from faults import fault
from ruamel.yaml import YAML

from downscale.cli import estimate
from downscale.config.load import load_config
from downscale.errors import ConfigError, EnvironmentMissingError, InputDataError
from downscale.hpc import jobs, slurm
from downscale.hpc.locks import holder
from downscale.hpc.resources import resources_of
from downscale.hpc.scripts import Job, Setting, render
from downscale.hpc.sites import load_site, names
from downscale.hpc.submit import STAGES, Request, plan, setting_of

CONFIG = """\
workspace: results
sources:
  R: {role: rcm, files: ["rcm/*.nc"]}
  G: {role: gcm, files: ["gcm/*.nc"], drives: R}
predictors: [{name: tas}]
targets: [{name: pr}]
upscale: {to: G}
split: {train: [2001], validation: [2002], test: [2003]}
train: {on: [R/perfect], epochs: 2}
"""
STRANGE = "a b'c\"d $HOME `ls` ü;&*"


def write_config(folder: Path, **hpc: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = YAML(typ="safe").load(CONFIG)
    data["hpc"] = {"environment": {"venv": "venv"}, **hpc}
    path = folder / "config.yaml"
    path.write_text(json.dumps(data))
    return path


def planned(config: Path, *stages: str, overrides=(), **request: object) -> tuple[list[Job], Setting]:
    cfg = load_config(config, overrides)
    asked = Request(config, stages or ("prepare", "train", "apply", "evaluate"), overrides, **request)
    site = load_site(cfg.hpc.site)
    return plan(cfg, asked, site, {}), setting_of(cfg, asked, site)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """SLURM's commands as small scripts: tools(name, bash text); what they were called with is in tools.calls()."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "calls"
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(name: str, text: str = "") -> None:
        path = folder / name
        path.write_text(f"#!/bin/bash\nprintf '%s\\n' \"{name} $*\" >>{log}\n{text}\n")
        path.chmod(0o755)

    write.calls = lambda: log.read_text().splitlines() if log.exists() else []
    write.log = log
    return write


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without SLURM."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


NUMBERS = "n=$(cat $0.n 2>/dev/null || echo 100); echo $((n + 1)) >$0.n; echo $n"
"""sbatch that gives numbers from 100."""


# --- chains ------------------------------------------------------------------------------------------------------------------------


def test_arrays_are_followed_by_a_job_that_verifies(tmp_path):
    config = write_config(tmp_path, jobs={name: {"array": 3} for name in ("prepare", "apply", "few-shot")})
    found, _ = planned(config, *STAGES, overrides=["train.seeds=[4, 5, 6]"], few_shot=["--from", "net"])
    assert [job.key for job in found] == [
        "01-prepare-parts", "02-prepare-merge", "03-train-first", "04-train-seeds", "05-train-verify", "06-few-shot-shares",
        "07-few-shot-verify", "08-apply-shares", "09-apply-verify", "10-evaluate",
    ]  # fmt: skip
    assert all(job.after == (before.key,) for before, job in itertools.pairwise(found)) and found[0].after == ()
    parts, merge, first, seeds, verify, cells = found[:6]
    assert (parts.option, list(parts.items)) == ("--part", ["1/3", "2/3", "3/3"]) and not merge.items
    assert first.command[-2:] == ["--seed", "4"] and (seeds.option, seeds.items) == ("--seed", ["5", "6"])
    assert "--seed" not in verify.command and "--set" in verify.command
    assert cells.command[-1] == "--no-wait" and list(cells.command[4:6]) == ["--from", "net"] and len(cells.items) == 3


def test_few_shot_needs_a_run_and_dask_a_stage(tmp_path):
    config = write_config(tmp_path)
    with pytest.raises(ConfigError, match="run to go on from"):
        planned(config, "few-shot")
    with pytest.raises(ConfigError, match="--dask"):
        planned(config, "train", dask=2)
    assert run_cli("submit", config, "cook").exit_code == 2


def test_the_chain_is_submitted_in_order(tmp_path, tools):
    for name in ("squeue", "scancel"):
        tools(name)
    tools("sbatch", NUMBERS)
    config = write_config(tmp_path / STRANGE)
    result = run_cli("submit", config, "prepare", "train", "apply", "--no-estimate", "--after", "77", "--json")
    assert result.exit_code == 0, result.output
    calls = [line for line in tools.calls() if line.startswith("sbatch")]
    waits = [next(word for word in line.split() if "dependency" in word) for line in calls]
    assert waits == ["--dependency=afterok:77", "--dependency=afterok:100", "--dependency=afterok:101"]
    assert all("--kill-on-invalid-dep=yes" in line for line in calls)
    chain = config.parent / "results" / "slurm" / "0001"
    record = json.loads((chain / "chain.json").read_text())
    assert [(job["key"], job["job"], job["after"]) for job in record["jobs"]] == [
        ("01-prepare", "100", []),
        ("02-train", "101", ["01-prepare"]),
        ("03-apply", "102", ["02-train"]),
    ]
    assert json.loads(result.stdout.splitlines()[-1])["artefact"] == str(chain)


def test_print_shows_all_scripts_and_writes_nothing(tmp_path, nowhere):
    config = write_config(tmp_path / STRANGE)
    result = run_cli("submit", config, "prepare", "train", "--print", "--no-estimate")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# === 01-prepare: 4 cores") and result.stdout.rstrip().endswith('exit "$code"')
    assert result.stdout.count("#!/bin/bash") == 2 and "afterok:JOB_OF_01-prepare" in result.stdout
    assert not (config.parent / "results").exists()


# --- refusals: exit 5 or 2, three lines -----------------------------------------------------------------------------------------------


def lines_of(result) -> list[str]:
    return result.stderr.strip().splitlines()


def test_without_slurm(tmp_path, nowhere):
    config = write_config(tmp_path)
    for command in (("submit", config, "prepare"), ("cancel", config)):
        result = run_cli(*command)
        assert result.exit_code == 5 and len(lines_of(result)) == 3 and "no SLURM" in result.stderr
    assert not (tmp_path / "results").exists()


def test_an_unknown_site(tmp_path, tools):
    for name in ("sbatch", "squeue", "scancel"):
        tools(name)
    result = run_cli("submit", write_config(tmp_path), "prepare", "--site", "atlantis")
    assert result.exit_code == 5 and len(lines_of(result)) == 3 and "jean-zay-h100" in result.stderr


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("about: x\ncpu: {tim: 1}", "cpu.tim"),
        ("- a", "cannot be used"),
        ("a: [", "cannot be read"),
        ("about: x\ncpu: {time: 20}", "cpu.time"),
    ],
)
def test_a_site_file_that_is_none(tmp_path, tools, text, word):
    for name in ("sbatch", "squeue", "scancel"):
        tools(name)
    (tmp_path / "site.yaml").write_text(text)
    result = run_cli("submit", write_config(tmp_path), "prepare", "--site", tmp_path / "site.yaml")
    assert result.exit_code == 2 and word in result.stderr


def test_gpus_where_the_site_has_none(tmp_path):
    (tmp_path / "site.yaml").write_text("about: a small cluster\ncpu: {cpus: 8}\n")
    config = write_config(tmp_path, site="./site.yaml", jobs={"train": {"gpus": 2}})
    result = run_cli("submit", config, "train", "--print")
    assert result.exit_code == 5 and len(lines_of(result)) == 3 and "this site has none" in result.stderr
    slow = write_config(tmp_path, site="jean-zay-h100", account="abc", jobs={"apply": {"time": "30:00:00"}})
    assert "the site gives 20:00:00" in run_cli("submit", slow, "apply", "--print", "--no-estimate").stderr
    config = write_config(tmp_path, site="jean-zay-h100", account="abc", jobs={"train": {"gpus": 8}})
    assert "this site has 4" in run_cli("submit", config, "train", "--print").stderr


def test_a_refused_job_takes_the_others_back(tmp_path, tools):
    tools("squeue")
    tools("scancel")
    tools("sbatch", f'case "$*" in *02-train*) echo "sbatch: error: Invalid account" >&2; exit 1;; esac; {NUMBERS}')
    result = run_cli("submit", write_config(tmp_path), "prepare", "train", "apply", "--no-estimate")
    assert result.exit_code == 5 and len(lines_of(result)) == 3 and "refused the job: Invalid account" in result.stderr
    assert tools.calls()[-1] == "scancel 100"


def test_jobs_still_in_the_queue(tmp_path, tools):
    tools("sbatch", NUMBERS)
    tools("scancel")
    tools("squeue", "echo '100|PENDING|Priority|(null)|'")
    config = write_config(tmp_path)
    assert run_cli("submit", config, "prepare", "--no-estimate").exit_code == 0
    again = run_cli("submit", config, "prepare", "--no-estimate")
    assert again.exit_code == 3 and "still in the queue: 100" in again.stderr
    assert run_cli("submit", config, "prepare", "--no-estimate", "--after", "100").exit_code == 0
    assert "100" in run_cli("cancel", config).output and tools.calls()[-1].startswith("scancel")
    assert (tmp_path / "results" / "slurm" / "0001" / "cancelled").exists()


def test_too_little_time_for_the_warning(tmp_path):
    config = write_config(tmp_path, jobs={"train": {"time": "00:02:00"}})
    result = run_cli("submit", config, "train", "--print")
    assert result.exit_code == 2 and "hpc.jobs.train.time" in result.stderr


@pytest.mark.parametrize(("name", "word"), [("a\nb", "control character"), ("a%jb", "signs of its own"), ("a\\b", "signs of its own")])
def test_paths_that_slurm_cannot_write_to(tmp_path, name, word):
    result = run_cli("submit", write_config(tmp_path / name), "prepare", "--print", "--no-estimate")
    assert result.exit_code == 2 and word in result.stderr


# --- sites and resources ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_every_site_renders_every_stage(tmp_path, name):
    config = write_config(tmp_path, site=name, account="abc", environment={})
    for dask in (0, 4):
        found, setting = planned(config, *STAGES, few_shot=["--from", "net"], dask=dask)
        for job in found:
            script = render(job, setting)
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)
            assert all(" " not in line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH"))


def test_jean_zay_asks_for_what_the_centre_wants(tmp_path):
    config = write_config(
        tmp_path, site="jean-zay-h100", account="abc", environment={}, jobs={"train": {"gpus": 1, "tasks": 8, "nodes": 2}}
    )
    found, setting = planned(config, "prepare", "train")
    prepare, train = (render(job, setting) for job in found)
    for line in ("--account=abc@cpu", "--partition=cpu_p1", "--qos=qos_cpu-t3", "--no-requeue", "--hint=nomultithread"):
        assert f"#SBATCH {line}\n" in prepare
    for line in ("--account=abc@h100", "--constraint=h100", "--gres=gpu:4", "--ntasks=8", "--ntasks-per-node=4", "--cpus-per-task=24"):
        assert f"#SBATCH {line}\n" in train
    assert "--mem" not in prepare and "module load arch/h100" in train and "--device cuda" in train and "--device" not in prepare
    with pytest.raises(ConfigError, match="charges jobs"):
        planned(config, "prepare", overrides=["hpc.account=null"])


def test_estimates_fill_in_and_the_site_caps():
    hpc = load_config_of({"jobs": {"apply": {"time": "30:00:00"}}})
    site = load_site("jean-zay-h100")
    assert resources_of(site, hpc, "prepare", (7200, 10)).seconds == 7200
    asked = resources_of(site, hpc, "apply", (7200, 10))
    assert asked.seconds == 20 * 3600 and "30:00:00 asked for, the site gives 20:00:00" in asked.notes[0]
    assert resources_of(site, hpc, "evaluate", (10**6, 10)).seconds == 20 * 3600
    generic = resources_of(load_site("generic"), hpc, "prepare", (60, 3 * 2**30))
    assert generic.seconds == 600 and "--mem=3072M" in generic.options


def load_config_of(hpc: dict):
    from downscale.config.hpc import HpcConfig

    return HpcConfig.model_validate({"account": "abc", **hpc})


@pytest.mark.parametrize(
    "hpc",
    ["{account: 'a b'}", "{jobs: {train: {time: 20}}}", "{jobs: {train: {time: '20'}}}", "{jobs: {train: {options: ['--x; rm']}}}",
     "{jobs: {cook: {}}}", "{jobs: {train: {tasks: 3, nodes: 2}}}", "{environment: {lines: [\"a\\nb\"]}}",
     "{jobs: {train: {memory: much}}}"],
)  # fmt: skip
def test_nothing_strange_gets_into_the_lines_of_sbatch(tmp_path, hpc):
    with pytest.raises(ConfigError):
        load_config(write_config(tmp_path), [f"hpc={hpc}"])


# --- what a script does -----------------------------------------------------------------------------------------------------------------


class Node:
    """Runs a job's script as SLURM would, with a python that notes its arguments and ends as told."""

    def __init__(self, folder: Path, tools, **hpc: object) -> None:
        self.tools, self.config = tools, write_config(folder / STRANGE, **hpc)
        tools("srun", 'while [[ "$1" == --* ]]; do shift; done\nexec "$@"')
        python = self.config.parent / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        arguments, code = (shlex.quote(str(folder / name)) for name in ("arguments", "code"))
        python.write_text(f"#!/bin/bash\nprintf '%s\\0' \"$@\" >{arguments}\nexit $(cat {code})\n")
        python.chmod(0o755)
        self.folder = folder

    def run(self, code: int, *stages: str, number: int = 0, arguments=(), **environment: str) -> tuple[int, dict]:
        found, setting = planned(self.config, *stages)
        job, setting = found[number], replace(setting, chain="0001")
        setting.folder.mkdir(parents=True, exist_ok=True)
        (setting.workspace / "slurm" / "logs").mkdir(exist_ok=True)
        (self.folder / "code").write_text(str(code))
        script = self.folder / "script"
        script.write_text(render(job, setting))
        shell = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "5", **environment}
        done = subprocess.run(["bash", str(script), *arguments], env=shell, capture_output=True, text=True, timeout=60, check=False)
        self.said = done.stdout + done.stderr
        task = f".{environment['SLURM_ARRAY_TASK_ID']}" if "SLURM_ARRAY_TASK_ID" in environment else ""
        return done.returncode, json.loads((setting.folder / f"{job.key}{task}.json").read_text())

    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().split("\0")[:-1]


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


def test_a_container_sees_what_it_needs(tmp_path):
    environment = {"container": "image.sif", "bind": ["more"]}
    config = write_config(tmp_path, environment=environment, jobs={"train": {"gpus": 1}})
    found, setting = planned(config, "train")
    command = next(line for line in render(found[0], setting).splitlines() if line.startswith("command=("))
    words = shlex.split(command.removeprefix("command=(").removesuffix(")"))
    binds = [f"--bind={tmp_path / name}" for name in ("results", "", "rcm", "gcm", "more")]
    assert words[:3] == ["apptainer", "exec", "--nv"] and words[3 : 3 + len(binds)] == [bind.rstrip("/") for bind in binds]
    assert words[8:12] == [str(tmp_path / "image.sif"), "python", "-P", "-m"]


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


# --- what status says --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path):
    """A workspace with a chain: three jobs, the second an array; chain(key=state) writes what a job says of itself."""
    folder = tmp_path / "slurm" / "0001"
    folder.mkdir(parents=True)
    (tmp_path / "slurm" / "logs").mkdir()
    entries = [("01-prepare", "10", [], 0), ("02-apply-shares", "11", ["01-prepare"], 2), ("03-evaluate", "12", ["02-apply-shares"], 0)]
    jobs.write_chain(folder, "config.yaml", [jobs.Entry(key, key[3:], number, after, tasks) for key, number, after, tasks in entries])

    def said(key: str, state: str, **more: object) -> None:
        facts = {"state": state, "code": 0, "job": "10", "next": "", "began": 0, "ended": 90, "host": "n1", "restarts": 0, **more}
        (folder / f"{key}.json").write_text(json.dumps(facts))

    said.workspace = tmp_path
    return said


def status(chain) -> list[str]:
    return [line.partition(": ")[2] for line in jobs.job_lines(chain.workspace)]


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


# --- estimates ---------------------------------------------------------------------------------------------------------------------------


FACTS = {"prepare": 7200.0, "epoch": 600.0, "memory": 3e9, "predicted": 36e9}


def test_a_rehearsal_is_kept_until_the_config_changes(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(estimate, "_rehearsed", lambda cfg, progress: asked.append(1) or FACTS)
    config = write_config(tmp_path, jobs={"prepare": {"array": 4, "cpus": 2}})

    def ask(*overrides: str, keep: bool = True) -> dict:
        return estimate.estimates(load_config(config, overrides), STAGES, keep=keep, progress=print)

    ask(keep=False)
    assert not (tmp_path / "results").exists()
    found = ask()
    assert ask("hpc.jobs.prepare.array=2")["prepare"][0] == 600 + 7200 and found["prepare"] == (600 + 3600, 6_000_000_000)
    assert found["train"] == (600 + 2 * 2 * 600, 8_000_000_000) and len(asked) == 2
    assert ask("train.seeds=[1, 2]")["apply"][0] > found["apply"][0] and len(asked) == 3
    (tmp_path / "results" / "slurm" / "estimate.json").write_text("{")
    assert ask() == found and len(asked) == 4


def test_inputs_that_cannot_be_opened(tmp_path, monkeypatch):
    def fail(cfg, progress):
        raise InputDataError("no such file")

    monkeypatch.setattr(estimate, "_rehearsed", fail)
    cfg = load_config(write_config(tmp_path))
    with pytest.raises(InputDataError):
        estimate.estimates(cfg, ["prepare"], keep=True, progress=print)
    assert estimate.estimates(cfg, ["train", "apply"], keep=True, progress=print) == {}


def test_what_is_given_needs_no_rehearsal(tmp_path):
    cfg = load_config(write_config(tmp_path, jobs={"train": {"time": "01:00:00", "memory": "4GB"}, "apply": {"time": "01:00:00"}}))
    assert not estimate.needed(cfg, ["train"]) and estimate.needed(cfg, ["train", "apply"]) and estimate.needed(cfg, ["prepare"])
