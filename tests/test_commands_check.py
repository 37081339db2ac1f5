"""downscale check: everything a long job would meet, on a few days, and nothing is written."""

from __future__ import annotations

import json
import shutil

import netCDF4
import numpy as np
import pytest
from conftest import run_cli
from faults import fault

from downscale.cli.check import span
from downscale.pairs.sample import sample_positions


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def summary(config, *options):
    result = run_cli("check", config, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["summary"]


def own_copy(tiny_world, tmp_path, *parts):
    """A copy of some folders of the tiny world, to be spoilt; the others are linked."""
    data = tmp_path / "data"
    for kind in ("rcm", "gcm"):
        for letter in "AB":
            part = f"{kind}/VGCM-{letter}"
            (data / kind).mkdir(parents=True, exist_ok=True)
            shutil.copytree(tiny_world / part, data / part) if part in parts else (data / part).symlink_to(tiny_world / part)
    return data


def spoil(folder, pattern, change):
    path = next(folder.glob(pattern))
    with netCDF4.Dataset(path, "a") as dataset:
        change(dataset[path.name.split("_")[0]])
    return path


def test_a_sound_experiment_passes_and_nothing_is_written(experiment, tmp_path):
    config = experiment()
    before = contents(tmp_path)
    result = run_cli("check", config, "--workers", "1")
    assert result.exit_code == 0, result.output
    said = ["coarse 4 x 4", "perfect + imperfect; train", "parameters", "forward and backward on the CPU", "training and validation days"]
    for words in (*said, "pairs.zarr, before compression", "one epoch", "nothing stands in the way", "converted from 'kg m-2 s-1'"):
        assert words in result.stdout
    assert contents(tmp_path) == before
    assert result.stderr == ""  # the notes stand in the table, not twice


def test_the_figures_follow_the_config(experiment):
    config = experiment()
    small, large = summary(config), summary(config, "--set", "train.batch_size=128", "--set", "model.width=16", "--set", "train.epochs=4")

    def parameters(found):
        return int(found["training"]["model"].split(", ")[1].split()[0].replace(",", ""))

    assert large["memory (training)"]["one batch"] != small["memory (training)"]["one batch"]
    assert small["training"]["steps"] == "12 in at most 2 epochs" and large["training"]["steps"] == "12 in at most 4 epochs"
    assert parameters(large) > 2 * parameters(small)


def test_the_estimate_of_the_store_is_what_prepare_says(experiment):
    config = experiment()
    said = run_cli("prepare", config, "--dry-run").stdout
    assert f"would write: {float(summary(config)['disk']['pairs.zarr, before compression'].split()[0]):.0f} MB" in said


@pytest.mark.parametrize(
    "options", [("model.name=unet_doury", "model.static=null"), ("model.backbone=ridge",), ("normalise.predictors=map",)]
)
def test_every_kind_of_model_is_tried(experiment, options):
    config = experiment()
    found = summary(config, *(word for option in options for word in ("--set", option)))
    assert "days tried forward and backward" in found["training"]["one batch"] and "nan" not in found["training"]["one batch"]


def test_all_faults_of_all_sources_are_listed_at_once(experiment, tiny_world, tmp_path):
    data = own_copy(tiny_world, tmp_path, "rcm/VGCM-B", "gcm/VGCM-B")
    bad = next((data / "rcm/VGCM-B").glob("pr_*"))
    bad.write_bytes(bad.read_bytes()[:3000])
    next((data / "gcm/VGCM-B").glob("zg_*")).unlink()
    config = experiment(data=data)
    result = run_cli("check", config)
    assert result.exit_code == 4 and "2 problems" in result.stderr
    assert bad.name in result.stderr and "zg500 not found" in result.stderr
    assert not (tmp_path / "results").exists()


def test_values_that_no_variable_has_are_found_before_the_job(experiment, tiny_world, tmp_path):
    data = own_copy(tiny_world, tmp_path, "rcm/VGCM-A", "gcm/VGCM-B")
    spoil(data / "rcm/VGCM-A", "tasmax_*", lambda variable: variable.__setitem__(slice(0, 1), 20.0))
    spoil(data / "gcm/VGCM-B", "zg_*", lambda variable: variable.__setitem__(-1, 1e5))
    result = run_cli("check", experiment(data=data))
    assert result.exit_code == 4 and "2 problems" in result.stderr, result.output
    for words in ("tasmax holds values from 20", "zg500 holds values", "tasmax_VRT", "zg_day_VGCM-B", "assume_units"):
        assert words in result.stderr
    assert not (tmp_path / "results").exists()


def test_units_that_lie_within_the_range_are_seen_by_holding_rcm_and_gcm_together(experiment, tiny_world, tmp_path):
    """Humidity in kg/kg labelled g/kg is a plausible number; it is a thousandth of the RCM's."""
    data = own_copy(tiny_world, tmp_path, "gcm/VGCM-B")
    spoil(data / "gcm/VGCM-B", "hus_*", lambda variable: variable.setncattr("units", "g kg-1"))
    warnings = summary(experiment(data=data))["warnings"]
    assert len(warnings) == 1 and "hus850" in warnings[0] and "GCM_B" in warnings[0] and "units" in warnings[0]


def test_missing_predictors_name_the_policies(experiment, tiny_world, tmp_path):
    data = own_copy(tiny_world, tmp_path, "gcm/VGCM-A")

    def hole(variable):
        fields = variable[0]
        fields[..., 4:6, 4:6] = np.ma.masked
        variable[0] = fields

    spoil(data / "gcm/VGCM-A", "ta_*", hole)
    config = experiment(data=data)
    result = run_cli("check", config)
    assert result.exit_code == 4 and "ta850 (GCM): missing values on 1 of 12 days" in result.stderr and "nan_days: drop" in result.stderr
    assert run_cli("check", config, "--set", "missing.nan_days=drop").exit_code == 0


def test_an_empty_split_is_a_matter_of_the_config(experiment, tmp_path):
    result = run_cli("check", experiment(), "--set", "split.test=[2050]")
    assert result.exit_code == 2 and "no day of the data falls into test" in result.stderr and not (tmp_path / "results").exists()


def test_too_little_space_and_a_folder_that_cannot_be_written_are_warnings(experiment, monkeypatch):
    config = experiment()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    monkeypatch.setattr("downscale.hpc.doctor.is_writable", lambda path: False)
    monkeypatch.setattr("downscale.hpc.doctor.memory", lambda: (1000, 1000))
    found = summary(config)
    assert len(found["warnings"]) == 3 and "warning" in found["result"]
    for words in ("10 kB free", "cannot be written here", "of memory"):
        assert any(words in line for line in found["warnings"])


@fault("S15", "`check` warns of what `train` would not be able to do on this machine")
def test_a_precision_that_the_machine_has_not_is_a_warning(experiment, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = summary(experiment(), "--set", "train.compile=true")
    assert len(found["warnings"]) == 1 and "C++ compiler" in found["warnings"][0] and "train.compile" in found["warnings"][0]


def test_what_stands_in_the_workspace_is_told(experiment, tmp_path):
    config = experiment()
    assert run_cli("prepare", config).exit_code == 0
    before = contents(tmp_path)
    assert summary(config)["warnings"] == []
    warnings = summary(config, "--set", "targets=[{name: pr}]")["warnings"]
    assert len(warnings) == 1 and "another recipe" in warnings[0] and "--overwrite" in warnings[0]
    assert contents(tmp_path) == before


def test_checksums_are_compared_and_a_wrong_one_is_named(experiment, tiny_world, tmp_path):
    pytest.importorskip("downscale.cf.verify")
    import hashlib

    paths = sorted(tiny_world.glob("?cm/*/*.nc"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(tiny_world)}" for path in paths]
    good, wrong = tmp_path / "SHA256SUMS", tmp_path / "WRONG"
    good.write_text("\n".join(lines) + "\n")
    wrong.write_text("\n".join([f"{'0' * 64}{lines[0][64:]}", *lines[1:]]) + "\n")
    config = experiment()
    assert "agree" in summary(config, "--verify", str(good))["checksums"]
    result = run_cli("check", config, "--verify", wrong)
    assert result.exit_code == 4 and paths[0].name in result.stderr


def test_the_days_looked_at_are_the_first_the_middle_and_the_last():
    assert sample_positions(100, 2).tolist() == [0, 1, 49, 50, 98, 99]
    assert sample_positions(5, 2).tolist() == [0, 1, 2, 3, 4]


def test_spans_of_time_in_words():
    said = [span(seconds) for seconds in (0.163, 8.7, 87, 119, 120, 7100, 7300, 180000)]
    assert said == ["0.16 s", "8.7 s", "87 s", "120 s", "2 minutes", "120 minutes", "2 hours", "2.1 days"]
