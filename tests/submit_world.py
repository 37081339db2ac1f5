"""Jobs without a cluster: a config, SLURM's commands as small scripts, a node that runs a job's script, a chain that was submitted."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from downscale.config.load import load_config
from downscale.hpc import jobs
from downscale.hpc.scripts import Job, Setting, render
from downscale.hpc.sites import load_site
from downscale.hpc.submit import Request, plan, setting_of

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
NUMBERS = "n=$(cat $0.n 2>/dev/null || echo 100); echo $((n + 1)) >$0.n; echo $n"
"""sbatch that gives numbers from 100."""


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


def lines_of(result) -> list[str]:
    return result.stderr.strip().splitlines()


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
