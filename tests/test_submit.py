"""Jobs without a cluster: chains, refusals, what sites offer and jobs ask for, estimates."""

from __future__ import annotations

import itertools
import json
import subprocess

import pytest
from conftest import run_cli
from submit_world import NUMBERS, STRANGE, lines_of, planned, write_config

from downscale.cli import estimate
from downscale.config.load import load_config
from downscale.errors import ConfigError, InputDataError
from downscale.hpc.resources import resources_of
from downscale.hpc.scripts import render
from downscale.hpc.sites import load_site, names
from downscale.hpc.submit import STAGES

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
    config = write_config(tmp_path, warning_seconds=10, jobs={"train": {"time": "00:01:00"}})
    result = run_cli("submit", config, "train", "--print")
    assert result.exit_code == 2 and "60 s before the end of a job of 60 s" in result.stderr  # every stage keeps a minute free


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
