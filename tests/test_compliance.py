"""CORDEX files under the official checkers and common tools; each test is skipped where its tool is absent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from profile_world import FACETS, spec_of, write

from downscale.grid.domains import domain_grid

TABLES = Path(__file__).resolve().parents[2] / "shared" / "cordex-tables"
CHECKER = os.environ.get("DOWNSCALE_COMPLIANCE_CHECKER") or shutil.which("compliance-checker")
SUITES = ("cf:1.11", "cc6", "wcrp_cordex_cmip6")
EMULATOR = "ALADIN-EMUL-1"
"""A source_id that is not registered: what an emulator has today."""
REMAINDER = {
    ("cc6", f"DRS path building block 'source_id' does not comply with the CV: '{EMULATOR}'"),
    ("cc6", f"DRS filename building block 'source_id' does not comply with the CV: '{EMULATOR}'"),
    ("cc6", f"Global attribute 'source_id' does not comply with the CV: '{EMULATOR}'"),
    ("cc6", "Global attribute 'source_type' does not comply with the CV: 'RCM-emulator'"),
    ("cc6", "Required global attributes could not be checked against CV: 'source'"),
    ("wcrp_cordex_cmip6", f"Global attribute 'source_id' does not comply with the CV: '{EMULATOR}'"),
    ("wcrp_cordex_cmip6", "Global attribute 'source_type' does not comply with the CV: 'RCM-emulator'"),
    ("wcrp_cordex_cmip6", "Required global attributes could not be checked against CV: 'source'"),
    ("wcrp_cordex_cmip6", f"DRS path building block 'source_id' does not comply with the CV: '{EMULATOR}'"),
    ("wcrp_cordex_cmip6", f"DRS filename building block 'source_id' does not comply with the CV: '{EMULATOR}'"),
}
"""Everything that the checkers have against an emulator: the vocabulary has no name and no type for it."""
SHORT = {("cc6", "File chunking"), ("wcrp_cordex_cmip6", "File chunking")}
"""Recommended, and not kept by files of eight days: five whole years."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eight days of EUR-12, written as apply does; with what the vocabulary says about institution and driving model."""
    facets = dict(FACETS)
    if (TABLES / "CORDEX-CMIP6_CV.json").exists():
        known = json.loads((TABLES / "CORDEX-CMIP6_CV.json").read_text())["CV"]
        facets["institution"] = known["institution_id"][facets["institution_id"]]
        facets["driving_source"] = known["driving_source_id"][facets["driving_source_id"]]["driving_source"]
    spec = spec_of(tmp_path_factory.mktemp("eur12"), first=20160101, last=20160108, grid=domain_grid("EUR-12"), facets=facets)
    return write("cordex", spec).files


@pytest.fixture(scope="module")
def areacella(files) -> Path:
    """The cell areas beside them."""
    (path,) = files[0].parents[3].rglob("areacella_*.nc")
    return path


def checked(path: Path, report: Path) -> tuple[int, dict[str, set[tuple[str, str]]]]:
    """Exit status (recommendations count), and what was found by priority: (suite, message up to its details)."""
    suites = [part for suite in SUITES for part in ("-t", suite)]
    options = [part for suite in SUITES[1:] for part in ("-O", f"{suite}:tables:{TABLES}")]
    command = [CHECKER, *suites, *options, "-c", "normal", "-f", "json", "-o", str(report), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, set[tuple[str, str]]] = {"high_priorities": set(), "medium_priorities": set(), "low_priorities": set()}
    for suite, results in json.loads(report.read_text()).items():
        for priority, messages in found.items():
            for result in results[priority]:
                messages |= {(suite, message) for message in _messages(result)}
    return done.returncode, found


def _messages(result):
    yield from result["msgs"]
    for child in result["children"]:
        yield from _messages(child)


@pytest.mark.skipif(CHECKER is None, reason="compliance-checker is not installed (compliance-checker cc-plugin-cc6 cc-plugin-wcrp)")
@pytest.mark.skipif(not TABLES.exists(), reason=f"no CORDEX tables at {TABLES}")
def test_the_checkers_find_the_known_remainder_and_nothing_else(files, tmp_path):
    for path in files:
        _, found = checked(path, tmp_path / f"{path.stem}.json")
        plain = {(suite, message.split(". Allowed")[0].rstrip(".")) for suite, message in found["high_priorities"]}
        assert plain == REMAINDER
        recommended = {(suite, message.split(" recommendations")[0]) for suite, message in found["medium_priorities"]}
        assert recommended == SHORT
        assert not found["low_priorities"]


@pytest.mark.skipif(CHECKER is None, reason="compliance-checker is not installed (compliance-checker cc-plugin-cc6 cc-plugin-wcrp)")
@pytest.mark.skipif(not TABLES.exists(), reason=f"no CORDEX tables at {TABLES}")
def test_the_checkers_have_no_more_against_the_areas(areacella, tmp_path):
    _, found = checked(areacella, tmp_path / "areas.json")
    assert {(suite, message.split(". Allowed")[0].rstrip(".")) for suite, message in found["high_priorities"]} == REMAINDER
    assert not found["medium_priorities"] and not found["low_priorities"]


@pytest.mark.skipif(CHECKER is None, reason="compliance-checker is not installed")
def test_members_and_numbers_a_day_are_cf(tmp_path):
    series = {"ood_score": {"long_name": "distance"}, "lead_time": {"standard_name": "forecast_period", "long_name": "t", "units": "days"}}
    spec = spec_of(tmp_path, first=20210101, last=20210103, members=("seed 1", "seed 2"), series=series, significant_bits=9)
    path = write("cf", spec, series={name: np.arange(3.0) for name in series}).files[0]
    command = [CHECKER, "-t", "cf:1.11", "-c", "strict", "-f", "text", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "All tests passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("cdo") is None, reason="cdo is not installed")
def test_cdo_reads_the_files_without_a_word(files, tmp_path):
    for path in files:
        info = subprocess.run(["cdo", "sinfo", path], capture_output=True, text=True, check=True)
        assert "rotated_latitude_longitude" in info.stdout and "cellbounds" in info.stdout and "arning" not in info.stderr
        mean = tmp_path / f"{path.stem}.nc"
        done = subprocess.run(["cdo", "fldmean", path, mean], capture_output=True, text=True, check=True)
        assert "arning" not in done.stderr
        variable = path.name.partition("_")[0]
        with xr.open_dataset(path) as fields, xr.open_dataset(mean) as means:
            weights = np.cos(np.deg2rad(fields["rlat"]))
            expected = fields[variable].astype(np.float64).weighted(weights).mean(("rlat", "rlon"))
            np.testing.assert_allclose(means[variable].values.ravel(), expected.values, rtol=1e-5)


@pytest.mark.skipif(shutil.which("ncdump") is None, reason="ncdump (netcdf-bin) is not installed")
def test_ncdump_shows_classic_files_of_days_and_metres(files):
    for path in files:
        kind = subprocess.run(["ncdump", "-k", path], capture_output=True, text=True, check=True)
        assert kind.stdout.strip() == "netCDF-4 classic model"
        times = subprocess.run(["ncdump", "-t", "-v", "time,height" if path.name.startswith("tas") else "time", path],
                               capture_output=True, text=True, check=True)  # fmt: skip
        assert '"2016-01-01 12", "2016-01-02 12"' in times.stdout and not times.stderr
        assert 'time:units = "days since' in times.stdout


def test_xarray_and_cf_xarray_find_their_way(files):
    """cf_xarray warns of areacella, which the archive keeps in a file of its own; of nothing else."""
    pytest.importorskip("cf_xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*areacella.*")
        with xr.open_dataset(files[0]) as data:
            assert data.cf["air_temperature"].name == "tas"
            assert {data.cf["latitude"].name, data.cf["longitude"].name} == {"lat", "lon"}
            assert data.cf.axes == {"X": ["rlon"], "Y": ["rlat"], "T": ["time"], "Z": ["height"]}
            assert data.cf.bounds["lat"] == ["vertices_lat"] and data.cf.bounds["time"] == ["time_bnds"]
            assert data.cf.grid_mapping_names == {"rotated_latitude_longitude": ["crs"]}
