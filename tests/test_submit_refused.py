"""Submissions that are refused, stopped half-way or not safe: nothing stays behind, nothing runs twice, the hint fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run_cli
from submit_world import NUMBERS, lines_of, planned, write_config

from downscale.hpc import submit as submitting
from downscale.hpc.resources import resources_of
from downscale.hpc.sites import load_site

TELL = "kill -TERM $PPID; sleep 0.2; "
"""A signal for the command that waits for this one."""


def chains(config: Path) -> list[str]:
    return sorted(path.name for path in (config.parent / "results" / "slurm").glob("0*"))


@pytest.fixture
def slurm(tools):
    for name in ("squeue", "scancel", "sacct", "scontrol"):
        tools(name)
    tools("sbatch", NUMBERS)
    return tools


def test_a_queue_that_does_not_answer_is_not_an_empty_one(tmp_path, slurm):
    config = write_config(tmp_path)
    slurm("squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    assert run_cli("cancel", config).exit_code == 0  # nothing was submitted, so nobody has to be asked
    assert run_cli("submit", config, "prepare", "--no-estimate").exit_code == 0
    before = slurm.calls()
    for command in (("cancel", config), ("submit", config, "prepare", "--no-estimate")):
        result = run_cli(*command)
        assert result.exit_code == 5 and len(lines_of(result)) == 3 and "squeue fails" in result.stderr
    assert not [line for line in slurm.calls()[len(before) :] if not line.startswith("squeue")]
    assert chains(config) == ["0001"] and "SLURM does not answer here" in run_cli("status", config).output


@pytest.mark.parametrize("how", ["signal", "disk"])
def test_a_submission_that_does_not_end_takes_its_jobs_back(tmp_path, slurm, monkeypatch, how):
    config = write_config(tmp_path)
    if how == "signal":
        slurm("sbatch", f'case "$*" in *02-train*) {TELL};; esac; {NUMBERS}')
    else:
        plain, written = submitting.write_chain, []

        def full(*arguments) -> None:
            written.append(1)
            if len(written) == 2:
                raise OSError(122, "Disk quota exceeded")
            plain(*arguments)

        monkeypatch.setattr(submitting, "write_chain", full)
    result = run_cli("submit", config, "prepare", "train", "apply", "--no-estimate")
    if how == "signal":
        assert result.exit_code == 75 and "stopped by SIGTERM; the jobs are taken back" in result.stderr
    else:
        assert result.exit_code == 1 and "Disk quota exceeded" in result.stderr
    assert slurm.calls()[-1] == "scancel 101 100" and len([line for line in slurm.calls() if line.startswith("sbatch")]) == 2
    assert chains(config) == []


def test_jobs_that_cannot_be_taken_back_stay_on_record(tmp_path, slurm):
    config = write_config(tmp_path)
    slurm("sbatch", f'case "$*" in *02-train*) echo "sbatch: error: Invalid account" >&2; exit 1;; esac; {NUMBERS}')
    slurm("scancel", "echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1")
    result = run_cli("submit", config, "prepare", "train", "--no-estimate")
    assert result.exit_code == 5 and "Invalid account" in result.stderr and "downscale cancel" in result.stderr
    assert chains(config) == ["0001"] and (tmp_path / "results" / "slurm" / "0001" / "cancelled").exists()


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", "try again later"),
        ("Batch job submission failed: Job dependency problem", "--after has to name a job"),
        ("Batch job submission failed: Invalid account or account/partition combination specified", "hpc.account"),
    ],
)
def test_the_hint_fits_what_slurm_says(tmp_path, slurm, said, hint):
    config = write_config(tmp_path)
    slurm("sbatch", f"echo 'sbatch: error: {said}' >&2; exit 1")
    result = run_cli("submit", config, "prepare", "--no-estimate", "--after", "7")
    assert result.exit_code == 5 and len(lines_of(result)) == 3 and said in result.stderr and hint in result.stderr
    assert chains(config) == []


def test_what_cannot_be_rendered_leaves_nothing(tmp_path, slurm):
    config = write_config(tmp_path / "a%jb")
    assert run_cli("submit", config, "prepare", "--no-estimate").exit_code == 2
    assert not (config.parent / "results").exists() and not [line for line in slurm.calls() if line.startswith("sbatch")]


@pytest.mark.parametrize("after", ["abc", "7:8", "", "7_"])
def test_after_is_a_number(tmp_path, nowhere, after):
    result = run_cli("submit", write_config(tmp_path), "prepare", "--print", "--no-estimate", "--after", after)
    assert result.exit_code == 2 and len(lines_of(result)) == 3 and "is not the number of a job" in result.stderr


def test_two_chains_beside_each_other_need_one_behind_the_other(tmp_path, slurm):
    """--after some other job is no reason to run twice."""
    config = write_config(tmp_path)
    assert run_cli("submit", config, "prepare", "train", "--no-estimate", "--after", "7").exit_code == 0
    slurm("squeue", "echo '100|PENDING|Priority|(null)|'; echo '101|PENDING|Dependency|afterok:100|'")
    for words in ((), ("--after", "7"), ("--after", "10")):
        result = run_cli("submit", config, "apply", "--no-estimate", *words)
        assert result.exit_code == 3 and "still in the queue: 101, 100" in result.stderr and "--after 101" in result.stderr
    assert run_cli("submit", config, "apply", "--no-estimate", "--after", "101").exit_code == 0


@pytest.mark.parametrize("stages", [("apply", "train"), ("train", "apply", "train"), ("train", "train"), ("few-shot", "prepare")])
def test_stages_once_and_in_order(tmp_path, nowhere, stages):
    result = run_cli("submit", write_config(tmp_path), *stages, "--print", "--no-estimate", "--from", "net")
    assert result.exit_code == 2 and len(lines_of(result)) == 3 and "is not the order of the stages" in result.stderr


# --- what jobs ask for ------------------------------------------------------------------------------------------------------------


def test_each_process_of_a_training_needs_its_memory(tmp_path):
    """That of the estimate is of one; what the config gives is of a node already."""
    site = load_site("generic")

    def memory(**job: object) -> int | None:
        cfg = submit_config(tmp_path, train=job)
        return resources_of(site, cfg.hpc, "train", (3600, 2_000_000_000)).memory

    assert memory() == 2_000_000_000 and memory(tasks=4) == 8_000_000_000
    assert memory(tasks=4, nodes=2) == 4_000_000_000 and memory(tasks=4, memory="3GB") == 3_000_000_000


def submit_config(folder: Path, **jobs: object):
    from downscale.config.load import load_config

    return load_config(write_config(folder, jobs=jobs))


def test_workers_of_dask_have_a_core_each(tmp_path):
    config = write_config(tmp_path, site="jean-zay-h100", account="abc", environment={}, jobs={"prepare": {"cpus": 20, "array": 4}})
    (job,), _ = planned(config, "prepare", dask=8)
    assert (job.resources.cpus, job.resources.tasks) == (1, 8) and "--cpus-per-task=1" in job.resources.options
    (note,) = job.resources.notes
    assert "one core" in note and "hpc.jobs.prepare.cpus and hpc.jobs.prepare.array not used" in note
    (job,), _ = planned(write_config(tmp_path), "prepare", dask=8)
    assert job.resources.notes == [] and job.resources.cpus == 1
