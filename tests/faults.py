"""The fault table: what can be wrong with files, grids, numbers, configs and jobs, and the mark that ties a test to its row.

docs/reference/faults.md is generated from these rows and from the marks (docs/generate.py); tests/test_faults_complete.py holds that
every row has a test. A row's test makes the fault with real bytes on disk and checks the exit code, the message, and that nothing was
written.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FAULTS = {
    "F01": "netCDF-4 file cut short",
    "F02": "netCDF-3 file cut short",
    "F03": "empty file",
    "F04": "login page or other text saved as .nc",
    "F05": "damaged bytes in a compressed chunk",
    "F06": "damaged bytes in uncompressed data",
    "F07": "file vanishes or is replaced during a run",
    "F08": "unreadable file, dangling link, folder named x.nc",
    "F09": "link inside the input tree to data elsewhere",
    "F10": "needed variable missing, or there under another name only",
    "F11": "two variables match",
    "F12": "other order of dimensions, extra dimensions of length 1",
    "F13": "ensemble dimension",
    "T01": "360_day calendar",
    "T02": "noleap calendar",
    "T03": "files of one run in two calendars",
    "T04": "calendar missing, `gregorian`, or misspelt",
    "T05": "days missing",
    "T06": "month missing at the seam of two files",
    "T07": "days in two files",
    "T08": "files whose names are not in the order of time",
    "T09": "00Z stamps against 12Z stamps, days that do not run from 00 to 24 h",
    "T10": "float32 time, `months since`, stamps some seconds off",
    "T11": "time bounds missing, inverted or of another length",
    "T12": "sub-daily steps",
    "T13": "precipitation accumulated since the start, or over six hours",
    "T14": "years outside 1678-2262, year 0",
    "U01": "units differ between the files of a series",
    "U02": "units attribute that lies",
    "U03": "precipitation in mm/day, m, mm/s, kg m-2 d-1",
    "U04": "geopotential for height, g/kg, relative for specific humidity",
    "U05": "packed int16, another scale in every file",
    "U06": "fill values that are not declared",
    "U07": "negative precipitation",
    "U08": "predictor that is constant or all missing",
    "G01": "latitude descending in some files",
    "G02": "longitude 0..360 against -180..180",
    "G03": "domain across Greenwich or the date line",
    "G04": "coordinates that differ by 1e-6 to 1e-4 degree",
    "G05": "grid shifted by half a cell, another RCM",
    "G06": "float32 against float64 coordinates",
    "G07": "2-D lat/lon only, projected axes only, Lambert in km",
    "G08": "bounds missing, descending or clockwise",
    "G09": "predictors do not cover the target",
    "G10": "levels in Pa or hPa, descending, missing, under the ground",
    "G11": "grid mapping variable missing",
    "N01": "NaN under the orography",
    "N02": "NaN or infinity on some days",
    "N03": "target NaN over the sea",
    "N04": "loss or gradient not finite",
    "N05": "loss explodes, constant output",
    "S01": "SIGTERM, SIGUSR1 or SIGINT in any stage",
    "S02": "`kill -9` in any stage",
    "S03": "`kill -9` while a checkpoint is written",
    "S04": "a training stopped or killed at any step",
    "S05": "a job that goes on with another number of processes",
    "S06": "one process of several fails, or a signal reaches only one",
    "S07": "a job whose wall time ends",
    "S08": "disk full, quota or limit on file sizes",
    "S09": "output folder that cannot be written, missing parent, relative path from another folder",
    "S10": "two runs into one workspace",
    "S11": "lock of a job that is dead",
    "S12": "the memory of a job or container is too small",
    "S13": "a GPU with too little memory for a batch",
    "S14": "clocks that differ, files whose times say nothing",
    "S15": "no GPU, or one without bfloat16",
    "S16": "a process that reads the training days hangs or dies",
    "X01": "weights that are a pickle with code in it",
    "X02": "weights with other names, shapes or number formats, or with NaN",
    "X03": "a run and data with other variables, levels, units or grid",
    "X04": "a run of a newer version",
    "X05": "YAML that would run Python",
    "X06": "YAML alias bomb",
    "X07": "duplicate keys, tabs, `1e-3`, `no`, dates",
    "X08": "`../` or absolute paths in names, run folders, manifests",
    "X09": "link in the output folder that points elsewhere",
    "X10": "spaces, newlines, shell signs, UTF-8 in paths",
    "X11": "header with a dimension of 1e9 or 100,000 variables",
    "X12": "misspelt config key",
    "X13": "empty period, overlap of training and test",
    "O01": "output that exists already",
    "O02": "output that another tool opens",
    "O03": "other blocks, batches, threads, workers",
    "O04": "another locale or time zone, umask 077, no home folder",
    "O05": "no network",
}


def fault(row: str, does: str) -> pytest.MarkDecorator:
    """Mark a test as the proof of a row: ``does`` says in a sentence what the tool does, exit code included."""
    assert row in FAULTS, row
    return pytest.mark.fault(row, does)


def assert_refused(result, *words: str, code: int = 4, untouched: Path | None = None) -> str:
    """A command's result (conftest.run_cli): its exit code, all the words in its message, three lines at most, and no output folder."""
    text = result.stderr
    assert result.exit_code == code, text + result.stdout
    assert "Traceback" not in text
    begin = text.index("error: ")
    head = [line for line in text[begin:].splitlines() if not line.startswith("  - ")]
    assert 2 <= len(head) <= 3, text
    for word in words:
        assert word in text[begin:], f"{word!r} not in {text[begin:]}"
    if untouched is not None:
        assert not untouched.exists(), sorted(untouched.rglob("*"))
    return text[begin:]
