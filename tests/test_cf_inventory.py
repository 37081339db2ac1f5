"""What a folder of files holds, with exact dates; and files against checksums."""

from __future__ import annotations

import hashlib
import shutil

import netCDF4
import pytest
from cf_files import write, write_rotated

from downscale.cf.catalogue import scan
from downscale.cf.inventory import inventory
from downscale.cf.verify import verify
from downscale.errors import InputDataError


def with_attributes(path, **attrs):
    with netCDF4.Dataset(path, "a") as file:
        file.setncatts(attrs)
    return path


def months(folder, *numbers, **options):
    return [write(folder / f"{month:02d}.nc", first=20010001 + 100 * month, last=20010030 + 100 * month, calendar="360_day", **options)
            for month in numbers]  # fmt: skip


def test_a_series_without_a_flaw(tmp_path):
    months(tmp_path, 1, 2, 3, attrs={"standard_name": "air_temperature"})
    (found,) = inventory(scan([tmp_path]))
    assert (found.name, found.standard_name, found.units, found.calendars) == ("tas", "air_temperature", ("K",), ("360_day",))
    assert (found.files, found.first, found.last, found.days) == (3, 20010101, 20010330, 90)
    assert found.lines() == [] and found.notes == ()
    assert len(found.grids) == 1 and found.grids[0].startswith("3 x 4 lat-lon")


def test_gaps_between_and_inside_files_with_exact_dates(tmp_path):
    paths = months(tmp_path, 1, 4)
    inside = write(tmp_path / "05.nc", days=[20010501, 20010502, 20010504], calendar="360_day")
    (found,) = inventory(scan([tmp_path]))
    assert [(gap.first, gap.last, gap.days) for gap in found.gaps] == [(20010201, 20010330, 60), (20010503, 20010503, 1)]
    assert found.lines() == [
        f"gap: 2001-02-01 to 2001-03-30, 60 days, between {paths[0]} and 04.nc",
        f"gap: 2001-05-03, 1 day, inside {inside}",
    ]


def test_overlaps_and_copies_name_both_files(tmp_path):
    first, _ = months(tmp_path, 1, 2)
    other = write(tmp_path / "x.nc", first=20010125, last=20010203, calendar="360_day")
    copy = tmp_path / "y.nc"
    shutil.copy(first, copy)
    (found,) = inventory(scan([tmp_path]))
    assert found.days == 60 and found.gaps == ()
    assert sorted(found.lines()) == [
        f"copy: 2001-01-01 to 2001-01-30, 30 days, in {first} and {copy}",
        f"overlap: 2001-01-25 to 2001-01-30, 6 days, in {first} and {other}",
        f"overlap: 2001-02-01 to 2001-02-03, 3 days, in {other} and {tmp_path / '02.nc'}",
    ]


@pytest.mark.parametrize("told_by", ["attribute", "name"])
def test_seams_between_experiments(tmp_path, told_by):
    stem = "tas_day_MODEL_{}_r1i1p1f1_gn.nc"
    paths = [
        write(tmp_path / stem.format("historical"), first=20140101, last=20141230, calendar="360_day"),
        write(tmp_path / stem.format("ssp585"), first=20150103, last=20151230, calendar="360_day"),
    ]
    if told_by == "attribute":
        for index, name in enumerate(("historical", "ssp585")):
            target = tmp_path / f"{index}.nc"
            paths[index] = with_attributes(paths[index].rename(target), experiment_id=name, source_id="MODEL", variant_label="r1i1p1f1")
    (found,) = inventory(scan([tmp_path]))
    (seam,) = found.seams
    assert (seam.last, seam.first, seam.missing, seam.before, seam.after) == (20141230, 20150103, 2, "historical", "ssp585")
    names = f"{paths[0]} and {paths[1].name}"
    assert str(seam) == f"seam: historical ends 2014-12-30, ssp585 begins 2015-01-03, 2 days missing between them, {names}"
    assert "MODEL" in found.run and "r1i1p1f1" in found.run


def test_runs_and_variables_are_kept_apart(tmp_path):
    for model in ("A", "B"):
        for name in ("tas", "pr"):
            path = write(tmp_path / f"{name}_{model}.nc", name=name, units="K" if name == "tas" else "mm/day")
            with_attributes(path, source_id=model, variant_label="r1i1p1f1", experiment_id="historical")
    found = inventory(scan([tmp_path]))
    assert [(one.run.split()[1], one.name) for one in found] == [("A", "pr"), ("A", "tas"), ("B", "pr"), ("B", "tas")]


def test_what_disagrees_is_listed(tmp_path):
    write(tmp_path / "a.nc")
    write(tmp_path / "b.nc", first=20010201, last=20010228, units="degC", lat=(10.0, 11.0))
    write(tmp_path / "c.nc", first=20010301, last=20010330, calendar="360_day")
    write(tmp_path / "d.nc", days=[20010401, 20010501, 20010601], bounds=False)
    write_rotated(tmp_path / "orog.nc", name="orog", fixed=True)
    (found,) = inventory(scan([tmp_path]))
    assert found.units == ("K", "degC") and found.calendars == ("standard", "360_day") and len(found.grids) == 2
    assert found.gaps == () and any(note.startswith(f"{tmp_path / 'd.nc'}: the file is not daily") for note in found.notes)


def test_a_rotated_grid_in_words(tmp_path):
    (found,) = inventory(scan([write_rotated(tmp_path / "tas.nc")]))
    assert "rotated" in found.grids[0]
    write_rotated(tmp_path / "other.nc", latlon=False)
    assert len(inventory(scan([tmp_path / "other.nc"]))[0].grids) == 1


# --- checksums ------------------------------------------------------------------------------------------------------------------


def digest(path, kind="sha256") -> str:
    return hashlib.new(kind, path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path):
    """Two files of one name in two folders."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write(tmp_path / place / "tas.nc", last=20010110 + (place == "b"))
    return tmp_path


FORMS = {
    "sha256sum": lambda path, base: f"{digest(path)}  {path.relative_to(base)}",
    "binary": lambda path, base: f"{digest(path)} *./{path.relative_to(base)}",
    "md5sum": lambda path, base: f"{digest(path, 'md5')}  {path}",
    "tag": lambda path, base: f"SHA512 ({path.relative_to(base)}) = {digest(path, 'sha512').upper()}",
}


@pytest.mark.parametrize("form", FORMS)
def test_checksums_in_every_form(archive, form):
    files = sorted(archive.rglob("*.nc"))
    checksums = archive / "sums"
    checksums.write_text("# made by hand\n" + "\n".join(FORMS[form](path, archive) for path in files))
    assert verify([archive], checksums) == 2
    data = bytearray(files[1].read_bytes())
    data[-1] ^= 1
    files[1].write_bytes(data)
    with pytest.raises(InputDataError, match="an input file fails its checksum") as caught:
        verify([archive / "*" / "*.nc"], checksums)
    assert caught.value.code == 4 and str(files[1]) in caught.value.where and str(checksums) in caught.value.where


def test_the_lines_of_an_esgf_script(tmp_path):
    path = write(tmp_path / "tas_day_X.nc")
    script = tmp_path / "wget.sh"
    mark = "EOF--dataset.file.url.chksum_type.chksum"
    line = f"'{path.name}' 'https://x/{path.name}' 'SHA256' '{digest(path)}'"
    script.write_text("\n".join([f'download_files="$(cat <<{mark}', line, mark, ')"']))
    assert verify([path], script) == 1
    script.write_text(script.read_text().replace(digest(path), "0" * 64))
    with pytest.raises(InputDataError, match="fails its checksum"):
        verify([path], script)


def test_every_file_that_does_not_agree_is_listed(archive):
    checksums = archive / "sums"
    other = write(archive / "other.nc")
    gone = archive / "gone.nc"
    checksums.write_text(f"{'0' * 64}  a/tas.nc\n{digest(archive / 'b' / 'tas.nc')}  b/tas.nc\n")
    with pytest.raises(InputDataError, match="3 input files do not agree") as caught:
        verify([archive / "a" / "tas.nc", archive / "b" / "tas.nc", other, gone], checksums)
    findings = caught.value.findings
    assert [line.split(": ")[0] for line in findings] == [str(archive / "a" / "tas.nc"), str(gone), str(other)]
    assert "the list says 0000000000000000..." in findings[0] and "not in the list" in findings[2] and caught.value.hint


def test_one_name_with_two_sums_is_not_guessed(archive, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("list") / "sums"
    elsewhere.write_text("\n".join(f"{digest(archive / place / 'tas.nc')}  {place}/tas.nc" for place in "ab"))
    with pytest.raises(InputDataError) as caught:
        verify([archive / "a"], elsewhere)
    assert "2 different checksums" in caught.value.where


def test_lists_that_are_none(tmp_path):
    path = write(tmp_path / "a.nc")
    with pytest.raises(InputDataError, match="cannot be read"):
        verify([path], tmp_path / "none")
    (tmp_path / "empty").write_text("nothing here\n")
    with pytest.raises(InputDataError, match="no checksums"):
        verify([path], tmp_path / "empty")
