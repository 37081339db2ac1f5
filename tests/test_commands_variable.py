"""A new variable is a row of the variable table and nothing else (docs/howto/add-a-variable.md)."""

from __future__ import annotations

import shutil

import netCDF4
import numpy as np
import pytest
from conftest import run_cli

from downscale.variables import TABLE, Variable

pytestmark = pytest.mark.slow

ROW = Variable(
    "rsds",
    "surface_downwelling_shortwave_flux_in_air",
    "Surface Downwelling Shortwave Radiation",
    "W m-2",
    "W m-2",
    "area: time: mean",
    (0.0, 600.0),
    remap="conservative",
    non_negative=True,
    also=("ssrd",),
)
STEPS = ("prepare", "train", "apply", "evaluate")


@pytest.fixture
def sunny(tiny_world, tmp_path, experiment):
    """RCM_A with one more variable, named otherwise and in kW m-2, as a target."""
    data = tmp_path / "data"
    for part in ("rcm/VGCM-A", "gcm/VGCM-A"):
        shutil.copytree(tiny_world / part, data / part)
    for path in (data / "rcm/VGCM-A").glob("tasmax_*"):
        other = path.with_name(path.name.replace("tasmax", "ssrd"))
        shutil.copy(path, other)
        with netCDF4.Dataset(other, "a") as dataset:
            dataset.renameVariable("tasmax", "ssrd")
            variable = dataset["ssrd"]
            for name in ("standard_name", "cell_methods", "scale_factor", "add_offset"):
                if name in variable.ncattrs():
                    variable.delncattr(name)
            variable.setncatts({"units": "kW m-2", "standard_name": ROW.standard_name})
            rows, columns = variable.shape[1:]
            day = np.arange(len(variable))[:, None, None]
            variable[:] = 0.2 + 0.1 * np.sin(day / 58.1) + 0.001 * np.arange(rows)[None, :, None] + np.zeros((1, 1, columns))
    return experiment(
        ("targets: [{name: tasmax}, {name: pr}]", "targets: [{name: rsds}]"),
        ('  RCM_B: {role: rcm, files: ["DATA/rcm/VGCM-B/*.nc"]}\n'.replace("DATA", str(data)), ""),
        ('  GCM_B: {role: gcm, files: ["DATA/gcm/VGCM-B/*.nc"], drives: RCM_B}\n'.replace("DATA", str(data)), ""),
        ("finetune: {on: [RCM_B/imperfect], epochs: 1}\n", ""),
        ("few_shot: {on: [RCM_B/imperfect], epochs: 1, shots: 1}\n", ""),
        data=data,
    )


def test_without_the_row_the_variable_is_unknown(sunny):
    result = run_cli("prepare", sunny)
    assert result.exit_code == 2 and "'rsds' is not in the variable table" in result.stderr


def test_with_the_row_the_whole_chain_knows_it(sunny, tmp_path, monkeypatch):
    monkeypatch.setitem(TABLE, ROW.name, ROW)
    assert run_cli("check", sunny).exit_code == 0
    small = ("--set", "train.baselines=[climatology]", "--set", "train.epochs=1", "--set", "apply.days=test")
    for step in STEPS:
        result = run_cli(step, sunny, *small)
        assert result.exit_code == 0, result.output
        if step == "prepare":
            assert "converted from 'kW m-2' to W m-2" in result.stderr
    with netCDF4.Dataset(tmp_path / "results/predictions/resunet-RCM_A-perfect/RCM_A_perfect/rsds.nc") as dataset:
        assert (dataset["rsds"].units, dataset["rsds"].standard_name) == ("W m-2", ROW.standard_name)
        assert 50 < float(np.nanmean(dataset["rsds"][:])) < 400


def test_values_beyond_its_range_are_refused(sunny, tmp_path, monkeypatch):
    monkeypatch.setitem(TABLE, ROW.name, ROW)
    path = next((tmp_path / "data/rcm/VGCM-A").glob("ssrd_*"))
    with netCDF4.Dataset(path, "a") as dataset:
        dataset["ssrd"][3] = 5.0
    result = run_cli("prepare", sunny)
    assert result.exit_code == 4 and "rsds holds values" in result.stderr and path.name in result.stderr
