"""downscale inspect: what any file or folder is and where it came from."""

from __future__ import annotations

import json
import os
import shutil

import netCDF4
import pytest
from cf_files import write, write_rotated
from conftest import run_cli
from rich.console import Console

from downscale.cli import tables
from downscale.cli.console import Options, show_error
from downscale.errors import InputDataError


@pytest.fixture(scope="module")
def workspace(tiny_world, tmp_path_factory):
    """The stages run on the tiny world: (config, workspace)."""
    from conftest import EXPERIMENT

    folder = tmp_path_factory.mktemp("inspected")
    geometry = json.loads((tiny_world / "truth.json").read_text())["geometry"]
    config = folder / "config.yaml"
    config.write_text(
        EXPERIMENT.format(
            data=tiny_world, coarse=geometry["coarse_box_edges"], fine=2 * geometry["target_cells"], relaxation=geometry["relaxation_cells"]
        )
    )
    small = ("--set", "train.epochs=1", "--set", "train.baselines=[bilinear]", "--set", "apply.days=test")
    for command in (("prepare",), ("train", "--name", "net", "--seed", "7"), ("apply",)):
        result = run_cli(command[0], config, *command[1:], *small)
        assert result.exit_code == 0, result.output
    return config, folder / "results"


def look(*paths):
    result = run_cli("inspect", *paths)
    assert result.exit_code == 0, result.output
    return result.stdout


def facts(*paths):
    result = run_cli("inspect", *paths, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_pair_store(workspace):
    text = look(workspace[1] / "pairs.zarr")
    for words in (
        "pair store",
        "zg500, ta850, hus850, ua850",
        "perfect + imperfect",
        "360_day",
        "converted from 'kg m-2 s-1'",
        "downscale 0",
    ):
        assert words in text
    assert facts(workspace[1] / "pairs.zarr")["groups"][0]["group"] == "RCM_A"


def test_a_run(workspace):
    text = look(workspace[1] / "runs" / "net")
    for words in (
        "finished",
        "resunet (width 8",
        "emulator, pretrain",
        "RCM_A/perfect",
        "1995",
        "seed",
        "7",
        "tasmax (standardise, K)",
        "sha256",
        "torch",
    ):
        assert words in text
    assert facts(workspace[1] / "runs" / "net" / "model.safetensors")["kind"] == "run"


def test_a_run_that_was_interrupted(workspace, tmp_path):
    shutil.copytree(workspace[1] / "runs" / "net", tmp_path / "net")
    for name in ("model.json", "DONE"):
        (tmp_path / "net" / name).unlink()
    text = look(tmp_path / "net")
    assert "unfinished run" in text and "the same train command goes on" in text and "RCM_A/perfect" in text


def test_a_prediction_folder_and_its_file(workspace):
    folder = workspace[1] / "predictions" / "net" / "RCM_B_imperfect"
    text = look(folder)
    for words in ("prediction", "own fields of GCM_B", "net (resunet, emulator, pretrain)", "360_day", "notes"):
        assert words in text
    text = look(folder / "pr.nc")
    for words in ("netCDF file", "downscale_model_id", "kg m-2 s-1", "chunks", "rotated pole", "trained on", "own fields of GCM_B"):
        assert words in text


def test_a_config_and_its_workspace(workspace):
    config, results = workspace
    text = look(config)
    for words in ("config", "train 1995; validation 1996; test 1997", "RCM_A", "net, ", "RCM_A, RCM_B"):
        assert words in text
    text = look(results)
    assert "workspace" in text and "bilinear-RCM_A-perfect" in text and "RCM_A_perfect" in text


def test_files_of_several_runs_are_a_catalogue(tiny_world):
    text = look(tiny_world / "rcm/VGCM-A/*.nc", tiny_world / "gcm/VGCM-B/*.nc")
    for words in ("catalogue", "VRCM1", "driven by", "VGCM-A", "360_day", "zg500", "1995-01-01", "orog, sftlf", "rotated pole"):
        assert words in text
    assert "sample data" in look(tiny_world)


def test_gaps_overlaps_and_seams_have_their_dates(tmp_path):
    for name, first, last, experiment in (
        ("a", 20010101, 20010110, "historical"),
        ("b", 20010121, 20010131, "historical"),
        ("c", 20010130, 20010228, "ssp585"),
    ):
        path = write(tmp_path / f"{name}.nc", first=first, last=last)
        with netCDF4.Dataset(path, "a") as dataset:
            dataset.setncatts({"source_id": "M", "experiment_id": experiment, "variant_label": "r1i1p1f1"})
    text = look(tmp_path)
    for words in (
        "gap: 2001-01-11 to 2001-01-20, 10 days",
        "overlap: 2001-01-30 to 2001-01-31, 2 days, b.nc and c.nc",
        "seam: historical ends 2001-01-31, ssp585 begins 2001-02-01",
    ):
        assert words in text
    row = facts(tmp_path)["runs"][0]["variables"][0]
    assert (row["days"], row["gaps"], row["overlaps"], row["seams"], row["variables"]) == ("49", "1", "1", "1", "tas [K]")


def test_escapes_in_attributes_do_not_reach_the_terminal(tmp_path):
    path = write(tmp_path / "t.nc")
    with netCDF4.Dataset(path, "a") as dataset:
        dataset.title = "a\x1b[2Jb"
    assert "\x1b" not in look(path) and "a [2Jb" in look(path)


def test_a_file_that_is_no_netcdf_in_spite_of_its_name(tmp_path):
    (tmp_path / "x.nc").write_text("<html>not found</html>")
    result = run_cli("inspect", tmp_path / "x.nc")
    assert result.exit_code == 4 and "not netCDF" in result.stderr and "<html>" in result.stderr


def test_one_file_in_full(tmp_path):
    path = write(
        tmp_path / "ta.nc",
        name="ta",
        dims=("time", "plev", "lat", "lon"),
        plev=[85000.0, 50000.0],
        attrs={"standard_name": "air_temperature"},
    )
    text = look(path)
    for words in (
        "NETCDF4",
        "ta850, ta500",
        "at 850, 500 hPa",
        "time 31 x plev 2 x lat 3 x lon 4",
        "2001-01-01 to 2001-01-31, 31 days",
        "lat-lon",
        "air_temperature",
    ):
        assert words in text
    assert facts(path)["variables"][0]["units"] == "K"


def test_no_field_is_read(tmp_path, monkeypatch):
    """Only axes and coordinates: reading a time-dependent variable would fail here."""
    path = write_rotated(tmp_path / "t.nc")
    with netCDF4.Dataset(path, "a") as dataset:
        size = dataset["tas"].size
    with path.open("r+b") as stream:  # the data lie at the end of this small file
        stream.seek(-size * 2, 2)
        stream.write(b"\xff" * 64)
    assert "rotated pole" in look(path)


@pytest.mark.parametrize("name", ["README.txt", "empty", "foreign.zarr", "absent.nc", "nothing*.nc"])
def test_what_downscale_does_not_know_is_said(tmp_path, name):
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign.zarr").mkdir()
    (tmp_path / "foreign.zarr" / "zarr.json").write_text('{"attributes": {}, "node_type": "group", "zarr_format": 3}')
    result = run_cli("inspect", tmp_path / name)
    assert result.exit_code == 4 and name in result.stderr and len(result.stderr.splitlines()) == 3


def test_what_is_broken_or_no_file_is_refused_in_three_lines(tmp_path):
    for name, text in (("model.json", "{}"), ("prediction.json", "[]"), ("truth.json", "{}"), ("zarr.json", "{")):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        (folder / name).write_text(text)
        result = run_cli("inspect", folder)
        assert result.exit_code == 4 and str(folder) in result.stderr and "internal" not in result.stderr, result.output
        assert len(result.stderr.strip().splitlines()) == 3
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("dangling", "symbolic link to nothing"), ("pipe", "not a regular file")):
        result = run_cli("inspect", tmp_path / name)
        assert result.exit_code == 4 and reason in result.stderr, result.output


def test_a_fixed_field_is_named(tmp_path):
    with netCDF4.Dataset(tmp_path / "HSURF.nc", "w") as file:
        for dim, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
            file.createDimension(dim, 3)
            file.createVariable(dim, "f8", (dim,)).units = units
            file[dim][:] = [40.0, 41.0, 42.0]
        field = file.createVariable("HSURF", "f4", ("lat", "lon"))
        field.standard_name, field.units = "surface_altitude", "m"
    assert facts(tmp_path / "HSURF.nc")["variables"][0]["taken as"] == "orog"


def test_control_characters_of_a_file_reach_no_terminal(tmp_path, capsys):
    units = "blubb\n\x1b[31m[bold]"
    write(tmp_path / "tas.nc", name="tas", units="K")
    with netCDF4.Dataset(tmp_path / "tas.nc", "a") as file:
        file["tas"].units = units
    shown = look(tmp_path / "tas.nc")
    assert "\x1b[31m" not in shown and "[31m[bold]" in shown
    show_error(InputDataError(f"units '{units}'", where="tas", hint="mend it", findings=[units]), Options())
    told = capsys.readouterr().err
    assert "\x1b[31m" not in told and "[31m[bold]" in told and len(told.splitlines()) == 4


def test_columns_go_below_each_other_in_a_narrow_terminal(monkeypatch, capsys):
    rows = (["variable", "shape", "meaning"], [["tas", "time 365 x lat 10 x lon 7", "near-surface air temperature"]])
    for width, lines in ((100, 2), (40, 3)):
        monkeypatch.setattr(tables, "output", lambda width=width: Console(width=width, soft_wrap=True, highlight=False))
        tables.print_columns(*rows)
        shown = capsys.readouterr().out.splitlines()
        assert len(shown) == lines and max(map(len, shown)) <= max(width, 45), shown
