"""Bad files (rows F01-F09, X11): each fault is made with real bytes on disk and met through the command line."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import struct
import time
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import zarr
from conftest import run_cli
from faults import assert_refused, fault

from downscale.cf.series import Series


@pytest.fixture
def world(tiny_world, experiment, tmp_path):
    """A world of its own, of links to the files of the shared one; the config, the GCM's ta file and the workspace to be."""
    data = tmp_path / "data"
    shutil.copytree(tiny_world, data, copy_function=os.link)
    config = experiment(data=data)
    (ta,) = (data / "gcm" / "VGCM-A").glob("ta_day_*.nc")
    return config, ta, config.parent / "results"


def put(path: Path, data: bytes) -> Path:
    """Put a new file in the place of a linked one."""
    path.unlink()
    path.write_bytes(data)
    return path


def rewritten(path: Path, **options) -> Path:
    """The same content in another format or storage."""
    target = path.with_suffix(".new")
    with netCDF4.Dataset(path) as old, netCDF4.Dataset(target, "w", format=options.pop("format", "NETCDF4")) as new:
        old.set_auto_maskandscale(False)
        new.set_auto_maskandscale(False)
        new.setncatts({name: old.getncattr(name) for name in old.ncattrs()})
        for name, dim in old.dimensions.items():
            new.createDimension(name, len(dim))
        for name, variable in old.variables.items():
            attrs = {key: variable.getncattr(key) for key in variable.ncattrs()}
            fill = attrs.pop("_FillValue", None)
            copy = new.createVariable(name, variable.dtype, variable.dimensions, fill_value=fill, **options)
            copy.setncatts(attrs)
            copy[...] = variable[...]
    target.replace(path)
    return path


@fault("F01", "exit 4 before anything is read: the file is named, with the netCDF library's reason")
def test_a_netcdf4_file_cut_short(world):
    config, ta, workspace = world
    data = ta.read_bytes()
    put(ta, data[: int(0.6 * len(data))])
    assert_refused(run_cli("prepare", config), "netCDF-4 file that cannot be opened, truncated or damaged", str(ta), untouched=workspace)


@fault("F01", "bad files of all sources stand in one list")
def test_all_bad_files_of_all_sources_are_listed_at_once(world):
    config, ta, workspace = world
    (pr,) = ta.parent.glob("pr_day_*.nc")
    (rcm,) = (ta.parents[2] / "rcm" / "VGCM-B").glob("tasmax_*.nc")
    for path, share in ((ta, 0.6), (pr, 0.0), (rcm, 0.9)):
        data = path.read_bytes()
        put(path, data[: int(share * len(data))])
    text = assert_refused(run_cli("prepare", config), untouched=workspace)
    for path in (ta, pr, rcm):
        assert str(path) in text


@fault("F02", "exit 4 before anything is read, with the number of bytes that are missing by the file's own header")
def test_a_netcdf3_file_cut_short(world):
    config, ta, workspace = world
    data = rewritten(ta, format="NETCDF3_CLASSIC").read_bytes()
    put(ta, data[:-5000])
    with netCDF4.Dataset(ta) as garbage:
        assert np.isfinite(garbage["ta"][-1]).all()
    assert_refused(run_cli("prepare", config), "netCDF-3 file, truncated: 5000 bytes are missing", str(ta), untouched=workspace)


@fault("F03", "exit 4, 'empty file' and its path")
def test_an_empty_file(world):
    config, ta, workspace = world
    put(ta, b"")
    assert_refused(run_cli("prepare", config), f"{ta}: empty file", "fetch it again", untouched=workspace)


@fault("F04", "exit 4, with the first characters of what the file holds instead of netCDF")
def test_a_login_page(world):
    config, ta, workspace = world
    put(ta, b"<!DOCTYPE html>\n<html><body>Please log in</body></html>")
    assert_refused(run_cli("prepare", config), f"{ta}: not netCDF (starts with '<!DOCTYPE html>')", untouched=workspace)


@fault("F05", "exit 4 when the field is read: file, variable and the days of the bad read; no store appears")
def test_damaged_bytes_in_a_compressed_chunk(world):
    config, ta, workspace = world
    data = bytearray(ta.read_bytes())
    half = len(data) // 2
    data[half : half + 4000] = bytes(255 - byte for byte in data[half : half + 4000])
    put(ta, bytes(data))
    text = assert_refused(run_cli("prepare", config), "ta850 cannot be read", f"{ta}: ta, 199", untouched=workspace / "pairs.zarr")
    assert " to 199" in text and "fetch it again" in text


@fault("F06", "`check --verify LIST`: exit 4, each file whose checksum differs; a value beyond the plausible range is refused anyway")
def test_damaged_bytes_in_uncompressed_data(world):
    config, ta, workspace = world
    data = bytearray(rewritten(ta, format="NETCDF3_64BIT_OFFSET").read_bytes())
    files = sorted(ta.parents[2].rglob("*.nc"))
    checksums = ta.parents[2] / "SHA256SUMS"
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(checksums.parent)}" for path in files]
    checksums.write_text("\n".join(lines) + "\n")
    assert run_cli("check", config, "--verify", checksums).exit_code == 0
    with netCDF4.Dataset(ta) as whole:
        value = whole["ta"][700, 0, 3, 3]
    place = bytes(data).index(np.array(value, ">f4").tobytes(), len(data) // 2)
    data[place] ^= 0x20
    put(ta, bytes(data))
    text = assert_refused(run_cli("check", config, "--verify", checksums), str(ta), untouched=workspace)
    assert "sha256 is" in text
    assert_refused(run_cli("prepare", config), "ta850 holds values from", str(ta), "199", untouched=workspace / "pairs.zarr")


@fault("F07", "exit 4: size and time are looked at when a file is opened and again when it is closed; no store appears")
@pytest.mark.parametrize("change", ["replaced", "vanished"])
def test_a_file_that_changes_during_the_run(world, monkeypatch, change):
    config, ta, workspace = world
    whole, reads = ta.read_bytes(), []
    read = Series.read

    def read_while_others_write(series, start, stop):
        fields = read(series, start, stop)
        if series.channel.name == "ta850" and series.pieces[0].header.path == ta and not reads:
            reads.append(start)
            if change == "replaced":
                put(ta, whole)
            else:
                ta.unlink()
        return fields

    monkeypatch.setattr(Series, "read", read_while_others_write)
    assert_refused(
        run_cli("prepare", config), f"{change} while it was in use", str(ta), "run the command again", untouched=workspace / "pairs.zarr"
    )
    assert reads


@fault("F08", "exit 4 with the path and the reason: not readable, a link to nothing, a folder")
@pytest.mark.parametrize("kind", ["unreadable", "failing", "dangling", "folder"])
def test_what_is_no_readable_file(world, kind):
    config, ta, workspace = world
    ta.unlink()
    if kind == "unreadable":
        ta.write_bytes(b"CDF\x01")
        ta.chmod(0)
        if os.access(ta, os.R_OK):
            pytest.skip("this user may read everything")
    elif kind == "failing":
        ta.symlink_to("/proc/self/mem")
    elif kind == "dangling":
        ta.symlink_to(ta.parent / "gone" / "ta.nc")
    else:
        ta.mkdir()
    reason = {
        "unreadable": "not readable",
        "failing": "not readable (Input/output error)",
        "dangling": "symbolic link to nothing",
        "folder": "a directory, not a file",
    }[kind]
    assert_refused(run_cli("prepare", config), f"{ta}: {reason}", untouched=workspace)


@fault("F09", "supported: the link is followed, and the store's list of inputs holds both its path and where it leads")
def test_a_link_to_data_elsewhere(world, tmp_path):
    config, ta, workspace = world
    archive = tmp_path / "archive" / "v20200101"
    archive.mkdir(parents=True)
    real = archive / "anything.nc"
    ta.rename(real)
    ta.symlink_to(real)
    result = run_cli("prepare", config)
    assert result.exit_code == 0, result.output
    files = zarr.open_group(workspace / "pairs.zarr", mode="r")["RCM_A"].attrs["files"]
    (entry,) = (entry for entry in files if entry["path"] == str(ta))
    assert entry["resolved"] == str(real)


@fault("X11", "a dimension beyond 2^27: exit 4 from the header alone, nothing of that size is allocated")
@pytest.mark.parametrize("dim", ["lat", "bnds", "time"])
def test_a_dimension_of_a_thousand_million(world, dim):
    config, ta, workspace = world
    sizes = {"time": 10, "lat": 4, "lon": 5, "bnds": 2, dim: 10**9}
    ta.unlink()
    with netCDF4.Dataset(ta, "w") as file:
        for name, size in sizes.items():
            file.createDimension(name, size)
        for name in ("time", "lat", "lon"):
            chunks = (min(sizes[name], 1000),)
            axis = file.createVariable(name, "f8", (name,), chunksizes=chunks)
            axis.units = {"time": "days since 1995-01-01", "lat": "degrees_north", "lon": "degrees_east"}[name]
        file["time"].bounds = "time_bnds"
        file.createVariable("time_bnds", "f8", ("time", "bnds"), chunksizes=(10, 2))
        file.createVariable("ta", "f4", ("time", "lat", "lon"), chunksizes=(1, 4, 5)).units = "K"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(run_cli("prepare", config), f"dimension '{dim}' of length 1000000000", str(ta), untouched=workspace)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@fault("X11", "a field of more than 2^28 cells: exit 4 before any is read")
def test_one_field_too_large_for_memory(world):
    config, ta, workspace = world
    rewritten(ta)
    with netCDF4.Dataset(ta, "w") as file:
        for name, size in (("time", 10), ("lat", 50_000), ("lon", 50_000)):
            file.createDimension(name, size)
            file.createVariable(name, "f8", (name,))[:] = np.linspace(0, {"time": 9, "lat": 50, "lon": 60}[name], size)
            file[name].units = {"time": "days since 1995-01-01", "lat": "degrees_north", "lon": "degrees_east"}[name]
        file.createVariable("ta", "f4", ("time", "lat", "lon"), chunksizes=(1, 100, 100)).units = "K"
        file.createVariable("plev", "f8", ())[...] = 85000.0
        file["plev"].setncatts({"units": "Pa", "standard_name": "air_pressure"})
        file["ta"].coordinates = "plev"
    assert_refused(run_cli("prepare", config), "one field of ta has 50000 x 50000 cells", str(ta), untouched=workspace)


def many_variables(count: int) -> bytes:
    """A classic header with scalar bytes, by the file format specification."""
    head = b"CDF\x01" + struct.pack(">5I", 0, 0, 0, 0, 0) + struct.pack(">2I", 11, count)
    size = len(head) + 40 * count
    items = [struct.pack(">I8s6I", 7, b"v%06d\0" % index, 0, 0, 0, 1, 4, size + 4 * index) for index in range(count)]
    return head + b"".join(items) + bytes(4 * count)


@fault("X11", "more than 10,000 variables: exit 4 within seconds")
def test_a_hundred_thousand_variables(world, tmp_path):
    config, ta, workspace = world
    few = tmp_path / "few.nc"
    few.write_bytes(many_variables(3))
    with netCDF4.Dataset(few) as file:
        assert list(file.variables) == ["v000000", "v000001", "v000002"]
    put(ta, many_variables(100_000))
    began = time.monotonic()
    assert_refused(run_cli("prepare", config), "declares 100000 variables", str(ta), untouched=workspace)
    assert time.monotonic() - began < 60


def test_many_variables_in_a_netcdf4_file_are_counted_before_they_are_read(world):
    config, ta, workspace = world
    ta.unlink()
    with netCDF4.Dataset(ta, "w") as file:
        for index in range(10_001):
            file.createVariable(f"v{index}", "i1", ())
    assert_refused(run_cli("prepare", config), "declares 10001 variables", str(ta), untouched=workspace)
