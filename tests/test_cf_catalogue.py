from __future__ import annotations

import os

import netCDF4
import numpy as np
import pytest
from cf_files import write

from downscale.cf import classic
from downscale.cf.catalogue import scan
from downscale.errors import InputDataError

CLASSIC = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def cut(path, fraction):
    with path.open("r+b") as stream:
        stream.truncate(int(path.stat().st_size * fraction))
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.write_bytes(b""), "empty file"),
        (lambda p: p.write_text("<html><body>login</body></html>"), "not netCDF (starts with '<html>')"),
        (lambda p: p.write_bytes(b"GRIB\x00\x00\x00\x02"), "not netCDF (starts with 'GRIB"),
        (lambda p: p.mkdir(), "a directory"),
        (lambda p: p.symlink_to("/nowhere/at/all.nc"), "symbolic link to nothing"),
        (lambda p: None, "no such file"),
        (lambda p: cut(write(p), 0.6), "truncated"),
        (lambda p: cut(write(p, format="NETCDF3_CLASSIC"), 0.6), "truncated: "),
        (lambda p: cut(write(p, format="NETCDF3_CLASSIC"), 0.02), "cut or damaged header"),
    ],
    ids=["empty", "html", "grib", "folder", "dangling", "absent", "netcdf4", "netcdf3", "netcdf3-header"],
)
def test_a_file_that_cannot_be_used_is_named_with_its_reason(tmp_path, make, says):
    path = tmp_path / "bad.nc"
    make(path)
    with pytest.raises(InputDataError) as caught:
        scan([path])
    assert caught.value.code == 4
    assert str(path) in caught.value.where and says in caught.value.where
    assert len(caught.value.lines()) <= 3


def test_all_bad_files_are_reported_at_once(tmp_path):
    good = write(tmp_path / "good.nc")
    empty, html = tmp_path / "empty.nc", tmp_path / "html.nc"
    empty.touch()
    html.write_text("<!doctype html>")
    short = cut(write(tmp_path / "short.nc"), 0.5)
    with pytest.raises(InputDataError, match="4 of the input files") as caught:
        scan([tmp_path / "*.nc", tmp_path / "no*match.nc"])
    findings = "\n".join(caught.value.findings)
    for part in (str(empty), str(html), str(short), "no*match.nc: no file matches"):
        assert part in findings
    assert str(good) not in findings


def test_unreadable_files_are_named(tmp_path):
    path = write(tmp_path / "secret.nc")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputDataError, match="cannot be used") as caught:
        scan([path])
    assert "not readable" in caught.value.where


def test_a_file_named_twice_counts_once(tmp_path):
    path = write(tmp_path / "one.nc")
    link = tmp_path / "link.nc"
    link.symlink_to(path)
    headers = scan([path, tmp_path / "*.nc", link])
    assert [header.resolved for header in headers] == [path]


def test_links_are_followed_and_recorded(tmp_path):
    (tmp_path / "archive").mkdir()
    path = write(tmp_path / "archive" / "one.nc")
    link = tmp_path / "link.nc"
    link.symlink_to(path)
    entry = scan([link])[0].manifest()
    assert entry["path"] == str(link) and entry["resolved"] == str(path) and entry["size"] == path.stat().st_size


def test_the_fingerprint_is_of_content_not_of_place_or_time(tmp_path):
    first = scan([write(tmp_path / "a.nc")])[0]
    copy = tmp_path / "b.nc"
    copy.write_bytes((tmp_path / "a.nc").read_bytes())
    os.utime(copy, (0, 0))
    other = scan([write(tmp_path / "c.nc", last=20010130)])[0]
    assert scan([copy])[0].fingerprint == first.fingerprint != other.fingerprint


def test_names_with_brackets_and_spaces_are_paths_when_they_exist(tmp_path):
    path = write(tmp_path / "tas [v1] é.nc")
    assert scan([str(path)])[0].path == path


@pytest.mark.parametrize("format", CLASSIC)
@pytest.mark.parametrize("records", [0, 1, 7])
@pytest.mark.parametrize("fields", [1, 2])
def test_the_length_of_classic_files_is_known_from_their_header(tmp_path, format, records, fields):
    path = tmp_path / "classic.nc"
    with netCDF4.Dataset(path, "w", format=format) as file:
        file.createDimension("time", None)
        file.createDimension("x", 3)
        file.setncatts({"title": "odd length", "number": np.float64(2.0)})
        file.createVariable("x", "f8", ("x",))[:] = [1, 2, 3]
        for index in range(fields):
            field = file.createVariable(f"field{index}", "i2", ("time", "x"))
            field.setncattr("_note", "x")
            if records:
                field[:records] = np.arange(3 * records).reshape(records, 3)
    assert classic.shortfall(path) == 0
    size = path.stat().st_size
    cut(path, (size - 5) / size)
    assert classic.shortfall(path) != 0
