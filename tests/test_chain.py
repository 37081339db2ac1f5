"""apply and the whole chain through the command line, on a tiny world: idempotence, refusals, a colleague's view."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import netCDF4
import numpy as np
import pytest
import xarray as xr
from apply_world import contents
from conftest import CHANNELS, EXPERIMENT, REPOSITORY, run_cli
from faults import fault

from downscale.apply.stage import apply_run
from downscale.cf.calendar import decode_days
from downscale.config.load import load_config
from downscale.hpc.crew import Crew


def ok(*arguments):
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def trained(tiny_world, tmp_path_factory):
    """Config of a workspace with pairs, a network and its baselines."""
    geometry = json.loads((tiny_world / "truth.json").read_text())["geometry"]
    config = tmp_path_factory.mktemp("chain") / "config.yaml"
    boxes = {"coarse": geometry["coarse_box_edges"], "fine": 2 * geometry["target_cells"], "relaxation": geometry["relaxation_cells"]}
    config.write_text(EXPERIMENT.format(data=tiny_world, **boxes))
    ok("prepare", config)
    ok("train", config, "--name", "net")
    return config


def fields(path) -> np.ndarray:
    with netCDF4.Dataset(path) as dataset:
        name = next(name for name in ("tasmax", "pr") if name in dataset.variables)
        return np.ma.filled(dataset[name][:], np.nan)


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory):
    """Config of a workspace with everything up to the report, and what evaluate said."""
    config = shutil.copytree(trained.parent, tmp_path_factory.mktemp("finished") / "copy") / "config.yaml"
    ok("train", config, "--mode", "finetune", "--from", "net", "--name", "tuned")
    ok("train", config, "--mode", "few-shot", "--from", "net", "--name", "shots")
    ok("apply", config)
    return config, json.loads(ok("evaluate", config, "--json").stdout.splitlines()[-1])


def test_the_chain_ends_in_a_report(finished):
    config, summary = finished
    assert summary["stage"] == "evaluate" and set(summary) == {"stage", "artefact", "seconds", "summary"}
    page = (config.parent / "results" / "report" / "index.html").read_text()
    assert "<h1" in page and "http://" not in page.replace("http://www.w3.org", "") and 'src="data:image' in page
    names = {path.name for path in (config.parent / "results" / "runs").iterdir()}
    assert {"net", "tuned", "shots", "ridge-RCM_A-perfect", "bilinear-RCM_A-perfect", "climatology-RCM_A-perfect"} <= names
    assert (config.parent / "results" / "scores" / "recovery.csv").read_text().count("shots") >= 1


def test_the_chain_leaves_few_files(finished):
    results = finished[0].parent / "results"
    inodes = {path.name: 1 + len(list(path.rglob("*"))) for path in results.iterdir()}
    runs, predictions = list((results / "runs").iterdir()), list((results / "predictions").glob("*/*"))
    assert len(runs) == 6 and len(predictions) == 24
    arrays, shards = 6, 2  # of each of two groups: three years are two shards
    assert inodes["pairs.zarr"] == 3 + 2 * (11 + arrays * (2 + shards)), "time, usable and scalars are one file each, the grids are one"
    assert inodes["runs"] <= 1 + 14 * len(runs)
    assert inodes["predictions"] <= 1 + len(runs) + 5 * len(predictions)
    assert inodes["scores"] <= 40, "all maps are one file"
    assert inodes["report"] == 5 + 3 * len(list((results / "report" / "data").iterdir())), "a figure is PNG, PDF and its numbers"
    assert set(inodes) == {"pairs.zarr", "pairs.statistics", "runs", "predictions", "scores", "report"} and inodes["pairs.statistics"] <= 4


def test_applying_again_does_nothing_and_overwrite_gives_the_same(trained):
    ok("apply", trained, "--run", "net", "--source", "RCM_B")
    folder = trained.parent / "results" / "predictions" / "net" / "RCM_B_perfect"
    before = {path.name: (path.stat().st_mtime_ns, fields(path)) for path in folder.glob("*.nc")}
    assert set(before) == {"tasmax.nc", "pr.nc"}
    assert "complete already" in ok("apply", trained, "--run", "net", "--source", "RCM_B").output
    assert all(path.stat().st_mtime_ns == before[path.name][0] for path in folder.glob("*.nc"))
    (folder / "prediction.json").unlink()  # as a kill would leave it
    ok("apply", trained, "--run", "net", "--source", "RCM_B")
    for path in folder.glob("*.nc"):
        np.testing.assert_array_equal(fields(path), before[path.name][1])


def test_blocks_do_not_change_the_numbers(trained):
    ok("apply", trained, "--run", "net", "--source", "RCM_A")
    path = trained.parent / "results" / "predictions" / "net" / "RCM_A_perfect" / "pr.nc"
    whole = fields(path)
    shutil.rmtree(path.parent)
    ok("apply", trained, "--run", "net", "--source", "RCM_A", "--set", "apply.block_days=64")
    np.testing.assert_array_equal(fields(path), whole)


def test_a_colleague_applies_the_run_folder_alone(trained, tiny_world, tmp_path):
    """The run folder copied elsewhere gives the workspace's numbers, from GCM files and from RCM files upscaled on the way."""
    run = shutil.copytree(trained.parent / "results" / "runs" / "net", tmp_path / "handed-over")
    ok("apply", trained, "--run", "net", "--source", "GCM_B", "--source", "RCM_B")
    for role, kind in (("gcm", "imperfect"), ("rcm", "perfect")):
        out = tmp_path / role
        files = sorted((tiny_world / role / "VGCM-B").glob("*.nc"))
        ok("apply", run, "--input", *files, "-o", out)
        for name in ("tasmax", "pr"):
            expected = fields(trained.parent / "results" / "predictions" / "net" / f"RCM_B_{kind}" / f"{name}.nc")
            np.testing.assert_allclose(fields(out / f"{name}.nc"), expected, rtol=2e-4, atol=1e-6)
        notes = json.loads((out / "prediction.json").read_text())["notes"]
        assert any("upscaled conservatively" in note if role == "rcm" else "brought to the training grid" in note for note in notes)


def test_outputs_are_cf(trained):
    ok("apply", trained, "--run", "net", "--source", "RCM_B")
    with xr.open_dataset(trained.parent / "results" / "predictions" / "net" / "RCM_B_perfect" / "pr.nc", decode_times=False) as dataset:
        assert dataset.attrs["Conventions"] == "CF-1.11" and dataset["time"].attrs["calendar"] == "360_day"
        assert dataset["pr"].attrs["units"] == "kg m-2 s-1" and dataset["pr"].attrs["cell_methods"] == "area: time: mean"
        mapping = dataset[dataset["pr"].attrs["grid_mapping"]].attrs if "grid_mapping" in dataset["pr"].attrs else dataset["crs"].attrs
        assert mapping["grid_mapping_name"] == "rotated_latitude_longitude"
        assert dataset["time_bnds"].shape == (dataset.sizes["time"], 2) and (dataset["pr"].values >= 0).all()
        for key in ("title", "history", "source", "downscale_model_id", "downscale_model_training", "downscale_config_sha256"):
            assert dataset.attrs[key]


def test_a_killed_apply_leaves_nothing_that_looks_done(trained, tmp_path):
    config = shutil.copytree(trained.parent, tmp_path / "copy") / "config.yaml"
    shutil.rmtree(config.parent / "results" / "predictions", ignore_errors=True)
    code = (
        "import time, downscale.apply.predict as p\nf = p._emulate\n"
        "p._emulate = lambda *a: (print('block', flush=True), time.sleep(0.5), f(*a))[2]\n"
        "from downscale.cli.app import app; app()"
    )
    arguments = ["apply", str(config), "--run", "net", "--source", "RCM_A", "--set", "apply.block_days=100"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3):
        assert process.stdout.readline().strip() == "block", process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    folder = config.parent / "results" / "predictions" / "net" / "RCM_A_perfect"
    assert not list(folder.glob("*.nc")) and not (folder / "prediction.json").exists()
    ok(*arguments)
    assert (folder / "prediction.json").exists() and not list(folder.glob("*.partial"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(trained, tmp_path, number):
    config = shutil.copytree(trained.parent, tmp_path / "copy") / "config.yaml"
    arguments = ["train", str(config), "--set", "train.epochs=4", "--set", "train.baselines=[]"]
    code = (
        "import time, torch, downscale.training.modes as m, downscale.training.loop as l\n"
        "torch.set_num_threads(1); m.SAVE_SECONDS = 0.0; f = l._step\n"
        "def step(*a):\n    r = f(*a); print('step', flush=True); time.sleep(0.1); return r\n"
        "l._step = step\n"
        "from downscale.cli.app import app; app()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--name", "killed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(15):  # into the third epoch
        assert process.stdout.readline().strip() == "step", process.stderr.read()
    process.send_signal(number)
    assert process.wait(timeout=60) == (75 if number == signal.SIGTERM else -9)
    runs = config.parent / "results" / "runs"
    assert not (runs / "killed" / "DONE").exists()
    ok(*arguments, "--name", "killed")
    ok(*arguments, "--name", "whole")
    killed, whole = (json.loads((runs / name / "model.json").read_text())["weights_sha256"] for name in ("killed", "whole"))
    assert killed == whole
    epochs = [line.split(",")[0] for line in (runs / "killed" / "metrics.csv").read_text().splitlines()[1:]]
    assert epochs == ["0", "1", "2", "3", "4"]


# --- bad input ---------------------------------------------------------------------------------------------------------------


def refused(result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.output, (word, result.output)


def test_a_run_on_data_with_other_channels_or_levels(trained, tiny_world, tmp_path):
    run = trained.parent / "results" / "runs" / "net"
    files = [path for path in (tiny_world / "gcm" / "VGCM-B").glob("*.nc") if not path.name.startswith("zg_")]
    refused(run_cli("apply", run, "--input", *files, "-o", tmp_path / "out"), 4, "zg500")
    moved = tmp_path / "levels"
    shutil.copytree(tiny_world / "gcm" / "VGCM-B", moved)
    (path,) = moved.glob("zg_*.nc")
    with netCDF4.Dataset(path, "a") as dataset:
        dataset["plev"][:] = dataset["plev"][:] + 7000.0
    refused(run_cli("apply", run, "--input", *sorted(moved.glob("*.nc")), "-o", tmp_path / "out"), 4, "zg500")
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_experiment_is_compared_with_the_store(trained, experiment):
    other = experiment(("{name: zg, levels: [500]}, ", ""))
    ok("prepare", other)
    refused(run_cli("apply", other, "--run", trained.parent / "results" / "runs" / "net"), 4, "zg500: the run needs it")


def test_existing_output_of_another_run(trained, tiny_world, tmp_path):
    files = sorted((tiny_world / "gcm" / "VGCM-A").glob("*.nc"))
    ok("apply", trained.parent / "results" / "runs" / "net", "--input", *files, "-o", tmp_path / "out")
    other = trained.parent / "results" / "runs" / "ridge-RCM_A-perfect"
    refused(run_cli("apply", other, "--input", *files, "-o", tmp_path / "out"), 3, "model_id")
    ok("apply", other, "--input", *files, "-o", tmp_path / "out", "--overwrite")


def test_foreign_files_in_the_output_folder(trained, tiny_world, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.nc").write_bytes(b"precious")
    files = sorted((tiny_world / "gcm" / "VGCM-A").glob("*.nc"))
    refused(run_cli("apply", trained.parent / "results" / "runs" / "net", "--input", *files, "-o", tmp_path / "out"), 3, "thesis.nc")


def test_usage_errors(trained, tmp_path):
    run = trained.parent / "results" / "runs" / "net"
    refused(run_cli("apply", run), 2, "--input")
    refused(run_cli("apply", trained, "--input", "x.nc"), 2, "run folder")
    refused(run_cli("apply", run, "--input", "x.nc", "-o", tmp_path / "out", "--forcings", "f.csv"), 2, "without forcings")
    refused(run_cli("apply", trained, "--source", "RCM_Z"), 2, "RCM_Z")
    refused(run_cli("apply", trained, "--run", "nothing"), 4, "nothing")
    refused(run_cli("train", trained, "--mode", "finetune"), 2, "--from")
    refused(run_cli("train", trained, "--shots", "2"), 2, "few-shot")
    refused(run_cli("train", trained, "--device", "cuda"), 5, "CUDA") if not _has_cuda() else None
    refused(run_cli("evaluate", tmp_path / "none.yaml"), 2, "none.yaml")
    refused(run_cli("sample-data", tmp_path / "x", "--years", "nineteen"), 2, "FIRST-LAST")


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def test_train_before_prepare_and_evaluate_before_apply(experiment):
    config = experiment()
    refused(run_cli("train", config), 4, "downscale prepare")
    ok("prepare", config)
    refused(run_cli("evaluate", config), 4, "downscale apply")


def test_a_run_of_another_recipe_stands_in_the_way(trained):
    refused(run_cli("train", trained, "--name", "net", "--set", "train.epochs=3"), 3, "epochs: 2 -> 3")
    assert "nothing to do" in ok("train", trained, "--name", "net").output


def test_sample_data_is_never_overwritten_by_chance(tiny_world):
    result = run_cli(
        "sample-data", tiny_world, "--size", "tiny", "--years", "1995-1996", *(word for name in CHANNELS for word in ("--channel", name))
    )
    refused(result, 3, "--overwrite")


def test_every_command_has_help():
    for command in ("demo", "sample-data", "prepare", "train", "apply", "evaluate", "report", "config"):
        assert "Usage" in ok(command, "--help").output
    assert json.loads(ok("config", "schema").output)["title"] == "ExperimentConfig"
    assert ok("--version").output.startswith("downscale ")


@pytest.mark.smoke
def test_smoke_on_the_committed_sample(tmp_path):
    for command in ("prepare", "train", "apply", "evaluate"):
        result = ok(command, REPOSITORY / "configs" / "smoke.yaml", "--set", f"workspace={tmp_path / 'smoke'}", "--json")
        assert json.loads(result.stdout.splitlines()[-1])["stage"] == command
    assert (tmp_path / "smoke" / "report" / "index.html").stat().st_size > 10_000


@fault("O03", "`apply --workers 2` leaves the files of one worker, to the last bit")
def test_workers_leave_what_one_leaves(trained, tmp_path):
    arguments = ("--run", "net", "--source", "RCM_B", "--source", "GCM_B", "--set", "apply.years_per_file=1")
    found = {}
    for workers in (1, 2):
        config = shutil.copytree(trained.parent, tmp_path / str(workers)) / "config.yaml"
        shutil.rmtree(config.parent / "results" / "predictions", ignore_errors=True)
        said = ok("apply", config, *arguments, "--workers", workers).output
        assert said.count("written") == 2, said
        found[workers] = contents(config.parent / "results" / "predictions")
    assert found[1] == found[2] and len([name for name in found[1] if name.endswith(".nc")]) > 4
    state = json.loads(ok("status", config, "--set", "apply.years_per_file=1", "--json").stdout.splitlines()[-1])["summary"]
    assert "net: done" in state["runs"] and any(line.startswith("net/RCM_B_perfect: done") for line in state["predictions"])
    assert any(line == "net/RCM_A_perfect: not begun" for line in state["predictions"])


def test_what_a_dead_worker_leaves_the_command_does_itself(trained, tmp_path):
    config = shutil.copytree(trained.parent, tmp_path / "ws") / "config.yaml"
    root = config.parent / "results" / "predictions"
    shutil.rmtree(root, ignore_errors=True)
    crew = Crew(2, "downscale.nowhere")  # both die at once
    said = apply_run(load_config(config), runs=["net"], sources=["RCM_B", "GCM_B"], device="cpu", workers=3, crew=crew)
    assert [line.rpartition(": ")[2].split(",")[0] for line in said["predictions"]] == ["written", "written"]
    assert not crew.done and len(list(root.glob("net/*/prediction.json"))) == 2
    again = apply_run(load_config(config), runs=["net"], sources=["RCM_B", "GCM_B"], device="cpu", workers=2)
    assert all("complete already" in line for line in again["predictions"])


def test_bad_input_is_said_once_and_ends_the_workers(trained, tmp_path):
    config = shutil.copytree(trained.parent, tmp_path / "ws") / "config.yaml"
    refused(run_cli("apply", config, "--source", "GCM_X", "--workers", "2"), 2, "no source 'GCM_X'")


def test_files_of_several_model_runs_each_into_a_folder(trained, tiny_world, tmp_path):
    run = trained.parent / "results" / "runs" / "net"
    files = sorted((tiny_world / "gcm").rglob("*.nc"))
    out = tmp_path / "ensemble"
    refused(run_cli("apply", run, "--input", *files, "-o", out), 4, "several runs")
    assert "would write" in ok("apply", run, "--input", *files, "-o", out, "--per-run", "--dry-run").output
    ok("apply", run, "--input", *files, "-o", out, "--per-run")
    made = sorted(path.parent.name for path in out.glob("*/prediction.json"))
    assert len(made) >= 2 and any("VGCM-A" in name for name in made) and any("VGCM-B" in name for name in made)
    assert "complete already" in ok("apply", run, "--input", *files, "-o", out, "--per-run").output
    refused(run_cli("apply", trained, "--per-run"), 2, "--per-run", "run folder")


def test_starts_and_members_of_decadal_predictions_stay_apart(trained, tiny_world, tmp_path):
    """Two forecasts that overlap in time, one of them with two members, from files as DCPP names them."""
    for start, member, first in (("s1995", "r1i1p1f1", 19951101), ("s1995", "r2i1p1f1", 19951101), ("s1996", "r1i1p1f1", 19961101)):
        for path in sorted((tiny_world / "gcm").rglob("*VGCM-A_historical*.nc")):
            with xr.open_dataset(path, decode_times=False) as data:
                days = np.asarray(decode_days(data["time"].values, data["time"].attrs["units"], data["time"].attrs["calendar"]))
                part = data.isel(time=(days >= first) & (days < first + 20000)).load()
            part.attrs |= {"experiment_id": "dcppA-hindcast", "sub_experiment_id": start, "variant_label": member}
            name = path.name.split("_")[0]
            part.to_netcdf(tmp_path / f"{name}_day_VGCM-A_dcppA-hindcast_{start}-{member}_gn_{first}-{first + 10000}.nc")
    out = tmp_path / "forecasts"
    ok("apply", trained.parent / "results" / "runs" / "net", "--input", *sorted(tmp_path.glob("*.nc")), "-o", out, "--per-run")
    made = sorted(path.parent.name for path in out.glob("*/prediction.json"))
    assert [name.partition("dcppA-hindcast_")[2] for name in made] == ["s1995_r1i1p1f1", "s1995_r2i1p1f1", "s1996_r1i1p1f1"]
    for name in made:
        with xr.open_dataset(out / name / "tasmax.nc", decode_times=False, decode_timedelta=False) as fields:
            lead = fields["lead_time"]
            assert lead.attrs["forecast_reference_time"] == f"{name[-13:-9]}-11-01" and lead.attrs["standard_name"] == "forecast_period"
            np.testing.assert_array_equal(lead, np.arange(fields.sizes["time"]) + 0.5)
