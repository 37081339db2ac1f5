from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cf_files import refused, write

from downscale.cf import cache, catalogue, classic, workers
from downscale.cf.catalogue import scan
from downscale.cf.header import FileHeader
from downscale.cf.open import open_files
from downscale.config.folders import cache_folder
from downscale.errors import InputDataError
from downscale.variables import Channel

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


# --- folders, trees, versions ---------------------------------------------------------------------------------------------------


def test_a_folder_stands_for_all_netcdf_files_below_it(tmp_path):
    tree = tmp_path / "CMIP6" / "day" / "tas"
    for name in ("gn/v20190101", ".hidden", "half.partial"):
        (tree / name).mkdir(parents=True)
    wanted = [write(tree / "gn" / "v20190101" / "a.nc"), write(tree / "b.nc")]
    for unwanted in (tree / ".hidden" / "c.nc", tree / ".d.nc", tree / "half.partial" / "e.nc", tree / "f.partial.nc"):
        write(unwanted)
    (tree / "notes.txt").write_text("no input")
    (tree / "again").symlink_to(tmp_path / "CMIP6", target_is_directory=True)
    for pattern in (tmp_path, f"{tmp_path}/CMIP*", f"{tmp_path}/**/[ab].nc"):
        assert [header.path for header in scan([pattern])] == sorted(wanted), pattern
    assert [header.path for header in scan([tree / ".d.nc"])] == [tree / ".d.nc"]


def test_a_folder_without_files_and_a_folder_with_the_name_of_a_file_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "tree" / "x.nc").mkdir(parents=True)
    with pytest.raises(InputDataError) as caught:
        scan([tmp_path / "empty", tmp_path / "tree" / "*.nc"])
    assert caught.value.findings == [
        f"{tmp_path}/empty: no *.nc file in this folder or below it",
        f"{tmp_path}/tree/x.nc: a directory, not a file",
    ]


def test_the_latest_version_of_a_file_is_taken_and_noted(tmp_path):
    for version in ("v20180101", "v20200202", "v20190303"):
        (tmp_path / "gn" / version).mkdir(parents=True)
        write(tmp_path / "gn" / version / "tas_200101.nc")
    only_old = write(tmp_path / "gn" / "v20180101" / "tas_200102.nc", first=20010201, last=20010228)
    headers = scan([tmp_path])
    assert [header.path for header in headers] == [only_old, tmp_path / "gn" / "v20200202" / "tas_200101.nc"]
    (note,) = headers[1].notes
    assert note == "files of version v20200202 are taken where v20180101, v20190303 are there too"
    assert f"A: {note}" in open_files("A", [tmp_path], [Channel("tas")]).notes


# --- selection ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def experiments(tmp_path):
    for name, member in (("historical", 1), ("ssp126", 1), ("ssp585", 2)):
        with netCDF4.Dataset(write(tmp_path / f"{name}.nc"), "a") as file:
            file.setncatts({"experiment_id": name, "realization_index": np.int32(member)})
    write(tmp_path / "orog.nc")
    return tmp_path


def names(headers) -> list[str]:
    return [header.path.stem for header in headers]


def test_files_are_selected_by_global_attributes(experiments):
    assert names(scan([experiments], select={"experiment_id": "ssp126"})) == ["ssp126"]
    assert names(scan([experiments], select={"experiment_id": ["historical", "ssp585"]})) == ["historical", "ssp585"]
    assert names(scan([experiments], select={"experiment_id": ["historical", "ssp126"], "realization_index": "1"})) == [
        "historical",
        "ssp126",
    ]


@pytest.mark.parametrize(
    "select", [{"experiment_id": "ssp245"}, {"experiment_id": ["historical", "ssp245"]}, {"variant_label": "r1i1p1f1"}]
)
def test_a_selection_that_finds_nothing_names_what_there_is(experiments, select):
    with pytest.raises(InputDataError, match="none of 4 files has the global attributes that are selected") as caught:
        scan([experiments], select=select)
    assert caught.value.hint.startswith("correct sources.NAME.select")
    if "experiment_id" in select:
        assert caught.value.findings == [
            "experiment_id: (no such attribute) (1 files), historical (1 files), ssp126 (1 files), ssp585 (1 files)"
        ]


# --- headers kept on disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DOWNSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the files that are really read."""
    seen: list[str] = []
    real = catalogue.header_or_problem

    def counted(path, resolved):
        seen.append(path.name)
        return real(path, resolved)

    monkeypatch.setattr(catalogue, "header_or_problem", counted)
    return seen


def settled(path: Path) -> Path:
    """As if it had been written long ago."""
    os.utime(path, (1e9, 1e9))
    return path


def same(one: FileHeader, other: FileHeader) -> None:
    for name in ("path", "resolved", "size", "mtime_ns", "fingerprint", "structure", "notes"):
        assert getattr(one, name) == getattr(other, name), name
    for ours, theirs in [(one.attrs, other.attrs), *((one.variables[name].attrs, other.variables[name].attrs) for name in one.variables)]:
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            assert type(value) is type(theirs[key]) and np.asarray(value).dtype == np.asarray(theirs[key]).dtype, key
            np.testing.assert_array_equal(value, theirs[key])
    assert list(one.variables) == list(other.variables) and list(one.values) == list(other.values)
    for name, variable in one.variables.items():
        twin = other.variables[name]
        assert (variable.dims, variable.shape, variable.dtype) == (twin.dims, twin.shape, twin.dtype)
    for name, values in one.values.items():
        np.testing.assert_array_equal(values, other.values[name], strict=True)


def odd_file(path: Path) -> Path:
    with netCDF4.Dataset(write(path, dtype="i2", fill=-32768, attrs={"scale_factor": 0.01, "add_offset": 280.0}), "a") as file:
        file.setncatts(
            {"empty": "", "unicode": "Žluťoučký 風", "number": np.float32(0.1), "numbers": np.arange(3, dtype="i8"), "not": np.nan}
        )
        file.setncattr_string("words", ["one", "two"])
        file.createVariable("text", str, ("time",))
    return settled(path)


def test_a_header_from_the_cache_equals_the_one_from_the_file(tmp_path, kept, reads):
    odd_file(tmp_path / "a.nc")
    settled(write(tmp_path / "b.nc", first=20010201, last=20010228))
    first = scan([tmp_path])
    assert reads == ["a.nc", "b.nc"] and len(list(kept.iterdir())) == 1
    second = scan([tmp_path])
    assert reads == ["a.nc", "b.nc"]
    for one, other in zip(first, second, strict=True):
        same(one, other)
    again = open_files("A", [tmp_path / "b.nc"], [Channel("tas")])
    assert again.series["tas"].read(0, 28).shape == (28, 3, 4)


@pytest.mark.parametrize("change", ["time", "size"])
def test_a_changed_file_is_read_again(tmp_path, kept, reads, change):
    path = settled(write(tmp_path / "a.nc"))
    scan([path])
    if change == "time":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    else:
        write(path, last=20010110)
        settled(path)
    header = scan([path])[0]
    assert reads == ["a.nc"] * 2 and len(header.values["time"]) == (31 if change == "time" else 10)


def test_bad_files_are_refused_however_often_they_are_scanned(tmp_path, kept, reads):
    path = settled(cut(write(tmp_path / "a.nc"), 0.6))
    settled(write(tmp_path / "b.nc"))
    for _ in range(2):
        with pytest.raises(InputDataError, match="an input file cannot be used"):
            scan([tmp_path / "*.nc"])
    assert reads == ["a.nc", "b.nc", "a.nc"]
    path.unlink()
    assert len(scan([tmp_path / "*.nc"])) == 1


def test_a_file_that_was_just_written_is_not_kept(tmp_path, kept, reads):
    path = write(tmp_path / "a.nc")
    scan([path])
    scan([path])
    assert reads == ["a.nc"] * 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty", "folder", "lies"])
def test_a_damaged_cache_is_written_anew(tmp_path, kept, reads, damage):
    path = settled(write(tmp_path / "a.nc"))
    scan([path])
    (file,) = kept.iterdir()
    data = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        lies = cache.seal(data[52:].replace(b'"arrays":[[', b'"arrays":[["?",[9],0],['))
        file.write_bytes({"cut": data[:-7], "flipped": flipped, "other": b"something else", "empty": b"", "lies": lies}[damage])
    for _ in range(2):
        assert len(scan([path])) == 1
    assert reads == ["a.nc"] * (3 if damage == "folder" else 2)


def test_equal_axes_are_kept_once(tmp_path, kept):
    lat = tuple(np.linspace(-80, 80, 2000))
    for day in range(1, 11):
        settled(write(tmp_path / f"{day:02d}.nc", first=20010100 + day, last=20010100 + day, lat=lat))
    scan([tmp_path / "*.nc"])
    (file,) = kept.iterdir()
    assert 16_000 < file.stat().st_size < 2 * 16_000
    headers = scan([tmp_path / "*.nc"])
    assert len({id(header.values["lat"]) for header in headers}) == 1 and len({header.values["time"][0] for header in headers}) == 10


def test_the_cache_forgets_files_that_are_gone_and_is_bounded(tmp_path, kept, reads, monkeypatch):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        for name in ("a.nc", "b.nc"):
            settled(write(tmp_path / place / name))
        scan([tmp_path / place])
    (tmp_path / "one" / "a.nc").unlink()
    settled(write(tmp_path / "one" / "c.nc"))
    scan([tmp_path / "one"])
    assert len(scan([tmp_path / "one" / "b.nc"])) == 1 and len(reads) == 5
    files = [json.loads(path.read_bytes()[60:].split(b"\x00")[0].rpartition(b"}")[0] + b"}")["files"] for path in kept.iterdir()]
    assert sorted(sorted(one) for one in files) == [["a.nc", "b.nc"], ["b.nc", "c.nc"]]
    (kept / "x.1.2.partial").touch()
    os.utime(kept / "x.1.2.partial", (0, 0))
    monkeypatch.setattr(cache, "_MOST_BYTES", 1)
    settled(write(tmp_path / "one" / "d.nc"))
    scan([tmp_path / "one"])
    assert list(kept.iterdir()) == []


def test_the_cache_is_reached_by_links_too(tmp_path, kept, reads):
    settled(write(tmp_path / "a.nc"))
    (tmp_path / "link.nc").symlink_to("a.nc")
    scan([tmp_path / "a.nc"])
    header = scan([tmp_path / "link.nc"])[0]
    assert reads == ["a.nc"] and header.path.name == "link.nc" and header.manifest()["resolved"] == str(tmp_path / "a.nc")


@pytest.mark.parametrize("broken", ["off", "file", "/proc/none"])
def test_everything_works_without_a_cache(tmp_path, monkeypatch, reads, broken):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DOWNSCALE_CACHE", str(tmp_path / "file") if broken == "file" else broken)
    path = settled(write(tmp_path / "a.nc"))
    assert cache_folder() is None
    assert len(scan([path])) == len(scan([path])) == 1 and reads == ["a.nc"] * 2


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSCALE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "common"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("DOWNSCALE_CACHE")
    assert cache_folder() == tmp_path / "common" / "downscale"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_folder() == tmp_path / "home" / ".cache" / "downscale"


# --- several processes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(catalogue, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(catalogue, "_BATCH", 2)


def test_processes_read_what_one_reads(tmp_path, eager):
    for day in range(1, 6):
        write(tmp_path / f"{day}.nc", first=20010100 + day, last=20010100 + day)
    odd_file(tmp_path / "odd.nc")
    with netCDF4.Dataset(write(tmp_path / "enum.nc"), "a") as file:
        kind = file.createEnumType(np.uint8, "cloud_t", {"clear": 0, "full": 1})
        file.createVariable("cloud", kind, ("time",))
    told: list[tuple[int, int]] = []
    many = scan([tmp_path], workers=2, progress=lambda *now: told.append(now))
    assert told[-1] == (7, 7) and len(told) == 4
    for one, other in zip(many, scan([tmp_path], workers=1), strict=True):
        same(one, other)
    (tmp_path / "bad.nc").touch()
    cut(tmp_path / "3.nc", 0.5)
    with pytest.raises(InputDataError) as caught:
        scan([tmp_path], workers=2)
    assert [line.split(": ")[0] for line in caught.value.findings] == [str(tmp_path / "3.nc"), str(tmp_path / "bad.nc")]


def test_a_file_that_ends_the_process_is_named(tmp_path, eager, monkeypatch):
    for name in "abcd":
        write(tmp_path / f"{name}.nc")
    poison = "import os, downscale.cf.workers as w; real = w.header_or_problem\n"
    poison += "w.header_or_problem = lambda path, resolved: os._exit(1) if path.name == 'c.nc' else real(path, resolved)\n"
    monkeypatch.setattr(workers, "_START", poison + workers._START)
    with pytest.raises(InputDataError) as caught:
        scan([tmp_path], workers=2)
    assert caught.value.where == f"{tmp_path}/c.nc: reading its header ended the process: damaged, or not enough memory"


def test_giving_up_leaves_no_process(tmp_path, eager):
    for day in range(1, 9):
        write(tmp_path / f"{day}.nc", first=20010100 + day, last=20010100 + day)

    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan([tmp_path], workers=2, progress=give_up)
    children = [child for tasks in Path("/proc/self/task").glob("*/children") for child in tasks.read_text().split()]
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    assert not any(b"downscale.cf.workers" in command for command in commands)


def test_a_script_without_a_main_guard_may_use_processes(tmp_path):
    for day in range(1, 4):
        write(tmp_path / f"{day}.nc", first=20010100 + day, last=20010100 + day)
    (tmp_path / "netCDF4.py").write_text("raise SystemExit('a file beside the data was imported')")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.remove(sys.path[0])\nfrom downscale.cf import catalogue\ncatalogue._WORTH_A_PROCESS = catalogue._BATCH = 1\n"
        f"print(len(catalogue.scan([{str(tmp_path)!r}], workers=2)))\n"
    )
    root = str(Path(catalogue.__file__).parents[2])
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": root})
    assert result.stdout.strip() == "3", result.stderr


def test_ten_thousand_files_of_one_structure_share_it(tmp_path):
    for day in range(1, 4):
        write(tmp_path / f"{day}.nc", first=20010100 + day, last=20010100 + day)
    headers = scan([tmp_path])
    assert len({id(header.variables) for header in headers}) == len({id(header.values["lat"]) for header in headers}) == 1
    text = refused("cannot be used", [tmp_path / "x*.nc"], [Channel("tas")])
    assert "no file matches" in text and "correct the path or pattern" in text and "fetch" not in text
