"""The same folder again: what counts as done, what is refused, and what a run folder does with files of several kinds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from conftest import run_cli
from faults import fault
from option_world import Bench, make_world
from test_options import DRIVEN

from downscale.apply.sets import shared_facets
from downscale.training.modes import train_run


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Files, and a run folder ``run`` beside them."""
    folder = tmp_path_factory.mktemp("again")
    bench = Bench(make_world(folder / "world"), folder / "out")
    (run,) = [train_run(bench.prepared((*DRIVEN, "model.dropout=0.2")), device="cpu")["artefact"]]
    shutil.copytree(run, folder / "world/run")
    return folder / "world"


@pytest.fixture
def ask(world, tmp_path):
    """ask(*more, inputs=, forcings=) -> what the command gives, into the folder ``out``."""

    def asked(*more, inputs=None, forcings="forcings.csv"):
        files = sorted((world / "gcm/base").glob("*.nc")) if inputs is None else inputs
        given = [part for path in files for part in ("--input", path)]
        return run_cli("apply", world / "run", *given, "-o", tmp_path / "out", "--forcings", world / forcings, "--device", "cpu", *more)

    return asked


def done(result):
    assert result.exit_code == 0, result.output
    return result.output


def said(result, code, *words):
    assert result.exit_code == code and all(word in result.output for word in words), result.output


@fault("O01", "`apply` of a run folder with other forcings, units or facets than the files there were made with: exit 3 with what differs")
def test_what_was_made_from_other_numbers_is_not_taken_for_done(ask, world, tmp_path):
    done(ask())
    assert "complete already" in done(ask())
    record = json.loads((tmp_path / "out/prediction.json").read_text())
    assert record["forcings"]["path"].endswith("forcings.csv") and len(record["forcings"]["sha256"]) == 64
    said(ask(forcings="other.csv"), 3, "another recipe", "input:")
    said(ask("--assume-units", "ta=K"), 3, "another recipe", "input:")
    said(ask("--facet", "sub_experiment_id=s2001"), 3, "another recipe", "facets")
    assert "complete already" in done(ask())


def test_a_record_of_before_that_states_no_facets_is_complete(ask, tmp_path):
    done(ask("--facet", "institution_id=J"))
    path = tmp_path / "out/prediction.json"
    record = json.loads(path.read_text())
    del record["recipe"]["facets"], record["bytes"]
    path.write_text(json.dumps(record))
    assert "complete already" in done(ask("--facet", "institution_id=J"))


def test_what_was_cut_short_is_made_again(ask, tmp_path):
    done(ask())
    path = tmp_path / "out/pr.nc"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "written" in done(ask()) and path.stat().st_size == len(whole)


@fault("O01", "files of somebody else in the folder of `apply -o`, whatever their names: exit 3, they stay")
@pytest.mark.parametrize("name", ["tasmax.nc", "pr_mine.nc", "thesis.nc", "prediction.zarr/mine.txt"])
def test_files_of_others_are_not_replaced(ask, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    said(ask(*(["--profile", "zarr"] if "zarr" in name else [])), 3, "files of another kind", name.partition("/")[0])
    assert path.read_text() == "precious" and not (tmp_path / "out/prediction.json").exists()


def test_what_a_killed_process_had_finished_is_our_own(ask, tmp_path):
    done(ask())
    (tmp_path / "out/prediction.json").unlink()
    assert "written" in done(ask())


@fault("X08", "a crafted prediction.json whose files lead out of its folder: exit 4, nothing outside is removed, --overwrite or not")
def test_a_crafted_record_removes_nothing_outside(ask, tmp_path):
    done(ask())
    victim = tmp_path / "victim/data.txt"
    victim.parent.mkdir()
    victim.write_text("precious")
    path = tmp_path / "out/prediction.json"
    record = json.loads(path.read_text())
    record["files"]["pr"].append("../victim")
    record["recipe"]["days"] = "others"
    path.write_text(json.dumps(record))
    said(ask("--overwrite"), 4, "leads out of its folder")
    assert victim.read_text() == "precious"


# --- several kinds of files ------------------------------------------------------------------------------------------------------


def as_run(world: Path, folder: Path, model: str, **attributes: str) -> list[Path]:
    """The GCM's files as those of a model run that is named in their attributes."""
    folder.mkdir(parents=True)
    for path in sorted((world / "gcm/base").glob("*.nc")):
        shutil.copy(path, folder / path.name)
        with netCDF4.Dataset(folder / path.name, "a") as file:
            file.setncatts({"source_id": model, "experiment_id": "historical", "variant_label": "r1i1p1f1", **attributes})
    return sorted(folder.glob("*.nc"))


def test_a_forecast_keeps_its_lead_time_without_being_asked(ask, world, tmp_path):
    files = as_run(world, tmp_path / "in", "M", experiment_id="dcppA-hindcast", sub_experiment_id="s2000")
    assert shared_facets(files)["sub_experiment_id"] == "s2000"
    done(ask(inputs=files))
    with netCDF4.Dataset(tmp_path / "out/pr.nc") as file:
        assert file["lead_time"].standard_name == "forecast_period" and float(file["lead_time"][0]) == 0.5
        assert file.driving_source_id == "M" and file.driving_sub_experiment_id == "s2000" and "M" in file.title


def test_each_model_run_has_its_folder_also_a_single_one_and_fixed_fields_are_none(ask, world, tmp_path):
    files = as_run(world, tmp_path / "in", "M")
    with netCDF4.Dataset(tmp_path / "in/orog_fx_M_historical_r0i0p0.nc", "w") as file:
        file.createDimension("lat", 2)
        file.createVariable("orog", "f4", ("lat",))[:] = 1.0
        file.setncatts({"source_id": "M", "variant_label": "r0i0p0"})
    done(ask("--per-run", inputs=[tmp_path / "in"]))
    assert [path.parent.name for path in (tmp_path / "out").rglob("prediction.json")] == ["M_historical_r1i1p1f1"]
    other = as_run(world, tmp_path / "more", "N")
    text = done(ask("--per-run", inputs=[*files, *other]))
    assert "complete already" in text and text.count("written") == 1


def test_all_model_runs_that_cannot_be_read_are_told(ask, world, tmp_path):
    whole = as_run(world, tmp_path / "whole", "A")
    poor = [path for name in "BC" for path in as_run(world, tmp_path / name, name) if path.name != "ta.nc"]
    result = ask("--per-run", inputs=[*whole, *poor])
    said(result, 4, "2 of 3 model runs", "B_historical_r1i1p1f1: ", "C_historical_r1i1p1f1: ")
    assert not (tmp_path / "out").exists()


# --- the section apply without a config --------------------------------------------------------------------------------------------


def test_the_section_apply_without_a_config(ask, tmp_path):
    done(ask("--set", "apply.members={of: dropout, number: 3}", "--set", "apply.years_per_file=1", "--set", "apply.significant_bits=10"))
    record = json.loads((tmp_path / "out/prediction.json").read_text())
    assert record["recipe"]["members"]["number"] == 3 and record["recipe"]["significant_bits"] == 10
    with netCDF4.Dataset(tmp_path / "out" / record["files"]["pr"][0]) as file:
        fields = file["pr"][:]
        assert file["pr"].dimensions[1] == "realization" and file.downscale_members.startswith("3 draws")
        assert np.abs(fields[:, 0] - fields[:, 1]).max() > 0


def test_far_days_end_in_7_where_that_is_asked(ask, world, tmp_path):
    files = as_run(world, tmp_path / "in", "M")
    with netCDF4.Dataset(next(path for path in files if path.name == "ta.nc"), "a") as file:
        file["ta"][:] = file["ta"][:] + 40.0
    done(ask(inputs=files))
    said(ask("--set", "apply.ood={threshold_share: 0.5, on_exceed: fail}", inputs=files), 7, "far")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("apply.align=mean", ("apply.align", "needs")),
        ("apply.days=test", ("apply.days needs the pairs",)),
        ("apply.colour=red", ("unknown key",)),
        ("train.epochs=3", ("unknown key",)),
        ("apply.members={of: seeds}", ("one seed",)),
    ],
)
def test_what_only_an_experiment_can_answer_is_refused(ask, override, words):
    said(ask("--set", override), 2, *words)
