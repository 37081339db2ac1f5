from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cf_files import Spec as FileSpec
from cf_files import days_of, field_of, read_all, refused, write, write_rotated

from downscale.cf.open import open_files, open_source
from downscale.config.schema import SourceConfig
from downscale.errors import InputDataError
from downscale.variables import Channel

TAS, PR = Channel("tas"), Channel("pr")
LAT, LON = (40.0, 42.0, 44.0), (0.0, 2.0, 4.0, 6.0)
LEVELS = ("time", "plev", "lat", "lon")


def test_a_file_comes_out_as_it_is(tmp_path):
    path = write(tmp_path / "tas.nc")
    source = open_source("A", SourceConfig(role="rcm", files=[str(path)]), [TAS])
    assert (source.name, source.role, source.calendar, source.notes) == ("A", "rcm", "standard", [])
    np.testing.assert_array_equal(source.days, days_of(FileSpec()))
    fields = read_all(source)
    assert fields.dtype == np.float32 and fields.flags.c_contiguous
    np.testing.assert_array_equal(fields, field_of(source.days, LAT, LON).astype(np.float32))
    assert source.files[0]["path"] == str(path) and {"size", "fingerprint"} <= set(source.files[0])


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_series_in_pieces_equals_the_whole_in_any_order(tmp_path, order):
    whole = open_files("A", [write(tmp_path / "all.nc", last=20010331)], [TAS])
    spans = [(20010101, 20010131), (20010201, 20010228), (20010301, 20010331)]
    names = ["zzz.nc", "aaa.nc", "mmm.nc"]
    paths = [write(tmp_path / name, first=first, last=last) for name, (first, last) in zip(names, spans, strict=True)]
    pieces = open_files("A", [paths[index] for index in order], [TAS])
    np.testing.assert_array_equal(pieces.days, whole.days)
    np.testing.assert_array_equal(read_all(pieces), read_all(whole))
    np.testing.assert_array_equal(pieces.series["tas"].read(25, 65), whole.series["tas"].read(25, 65))
    assert pieces.series["tas"].read(5, 5).shape == (0, 3, 4)


def test_at_most_one_file_is_open_and_memory_is_one_block(tmp_path):
    paths = [write(tmp_path / f"{month}.nc", first=20010001 + 100 * month, last=20010028 + 100 * month) for month in (1, 2)]
    source = open_files("A", paths, [TAS], gaps="skip")
    series = source.series["tas"]
    series.read(0, 56)
    first = series._open[1]
    series.read(0, 3)
    assert not first.isopen() and series._open[1].isopen()
    source.close()
    assert series._open is None


@pytest.mark.parametrize("calendar", ["standard", "gregorian", "proleptic_gregorian", "noleap", "365_day", "360_day", "julian"])
def test_calendars_are_supported(tmp_path, calendar):
    spec = FileSpec(first=20000220, last=20000310, calendar=calendar)
    source = open_files("A", [write(tmp_path / "a.nc", spec)], [TAS])
    np.testing.assert_array_equal(source.days, days_of(spec))
    assert source.calendar == {"gregorian": "standard", "proleptic_gregorian": "standard", "365_day": "noleap"}.get(calendar, calendar)


def test_a_missing_calendar_attribute_is_noted(tmp_path):
    source = open_files("A", [write(tmp_path / "a.nc", calendar=None)], [TAS])
    assert source.calendar == "standard" and any("without calendar" in note for note in source.notes)


def test_an_unknown_calendar_is_refused(tmp_path):
    path = write(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file["time"].calendar = "gregorian_proleptic"
    assert str(path) in refused("unknown calendar", [path], [TAS])


def test_mixed_calendars_are_refused_with_the_files(tmp_path):
    paths = [write(tmp_path / "hist.nc"), write(tmp_path / "ssp.nc", first=20020101, last=20020130, calendar="360_day")]
    text = refused("2 calendars in one source: 360_day, standard", paths, [TAS])
    assert "360_day: ssp.nc" in text and "standard: hist.nc" in text


def test_mixed_calendars_of_two_variables_are_refused(tmp_path):
    paths = [write(tmp_path / "tas.nc"), write(tmp_path / "pr.nc", name="pr", units="kg m-2 s-1", calendar="360_day", last=20010130)]
    refused("2 calendars", paths, [TAS, PR])


@pytest.mark.parametrize(("stamp", "bounds"), [(0.0, True), (1.0, True), (0.0, False), (0.5, False), (0.99, False)])
def test_the_hour_of_the_stamp_does_not_matter(tmp_path, stamp, bounds):
    source = open_files("A", [write(tmp_path / "a.nc", stamp=stamp, bounds=bounds)], [TAS])
    assert source.days[0] == 20010101 and len(source.days) == 31
    assert any("no time bounds" in note for note in source.notes) != bounds


@pytest.mark.parametrize("units", ["days since 1949-12-01 00:00:00", "hours since 1970-01-01", "seconds since 1949-12-01T00:00:00Z"])
def test_time_units_do_not_matter(tmp_path, units):
    assert open_files("A", [write(tmp_path / "a.nc", time_units=units)], [TAS]).days[0] == 20010101


def test_gaps_are_refused_or_listed(tmp_path):
    paths = [write(tmp_path / "a.nc"), write(tmp_path / "b.nc", first=20010301, last=20010331)]
    text = refused("tas lacks days: 1 gap, 28 days: 2001-02-01 to 2001-02-28", paths, [TAS])
    assert f"seam between {paths[0]} and b.nc" in text and "gaps: skip" in text
    source = open_files("A", paths, [TAS], gaps="skip")
    assert len(source.days) == 62 and any("28 days: 2001-02-01 to 2001-02-28: skipped" in note for note in source.notes)
    np.testing.assert_array_equal(source.series["tas"].read(29, 33), field_of(source.days[29:33], LAT, LON).astype(np.float32))


def test_overlapping_files_with_equal_data_are_read_once(tmp_path):
    paths = [write(tmp_path / "a.nc"), write(tmp_path / "b.nc", first=20010120, last=20010220)]
    source = open_files("A", paths, [TAS])
    assert len(source.days) == 51 and any("12 days are in two files" in note for note in source.notes)
    np.testing.assert_array_equal(read_all(source), field_of(source.days, LAT, LON).astype(np.float32))


def test_overlapping_files_with_other_data_are_refused(tmp_path):
    days = days_of(FileSpec(first=20010120, last=20010220))
    paths = [write(tmp_path / "a.nc"), write(tmp_path / "b.nc", days=days, data=field_of(days, LAT, LON, 281.0))]
    text = refused("two files hold 2001-01-20 with different data", paths, [TAS])
    assert str(paths[0]) in text and str(paths[1]) in text


def test_channels_with_different_days(tmp_path):
    paths = [write(tmp_path / "tas.nc"), write(tmp_path / "pr.nc", name="pr", units="mm/day", first=20010111, last=20010210)]
    text = refused("channels have different days", paths, [TAS, PR])
    assert "tas: 2001-01-01 to 2001-01-31, 31 days" in text
    source = open_files("A", paths, [TAS, PR], gaps="skip")
    assert source.days[0] == 20010111 and len(source.days) == 21
    assert any("21 common ones from 2001-01-11 to 2001-01-31" in note for note in source.notes)
    for name in ("tas", "pr"):
        np.testing.assert_array_equal(read_all(source, name), field_of(source.days, LAT, LON).astype(np.float32))


def test_channels_keep_their_own_days_where_a_lacking_one_is_to_be_missing(tmp_path):
    days = np.setdiff1d(days_of(FileSpec(first=20010111, last=20010210)), [20010120])
    paths = [write(tmp_path / "tas.nc"), write(tmp_path / "pr.nc", name="pr", units="mm/day", days=days)]
    source = open_files("A", paths, [TAS], optional=[PR], gaps="missing")
    assert len(source.days) == 31 and len(source.series["pr"].days) == 20  # an optional one adds no days
    source = open_files("A", paths, [TAS, PR], gaps="missing")
    assert len(source.days) == 41 and [len(one.days) for one in source.series.values()] == [31, 30]
    told = " ".join(source.notes)
    assert "tas: 2001-01-01 to 2001-01-31, 31 days; pr: 2001-01-11 to 2001-02-10, 30 days" in told and "2001-01-20: missing" in told


def test_channels_of_equal_days_are_told_together(tmp_path):
    paths = [write(tmp_path / f"ta{level}.nc", name="ta", plev=100.0 * level) for level in (850, 700, 500, 250)]
    paths.append(write(tmp_path / "tas.nc", last=20010110))
    channels = [TAS, *(Channel("ta", level) for level in (850, 700, 500, 250))]
    text = refused("channels have different days", paths, channels)
    assert "ta850 and 3 others: 2001-01-01 to 2001-01-31, 31 days" in text and "tas: 2001-01-01 to 2001-01-10, 10 days" in text


@pytest.mark.parametrize("gaps", ["skip", "missing"])
def test_channels_without_a_common_day_are_refused_whatever_the_policy(tmp_path, gaps):
    paths = [write(tmp_path / "tas.nc"), write(tmp_path / "pr.nc", name="pr", units="mm/day", first=20020101, last=20020131)]
    refused("none in common", paths, [TAS, PR], gaps=gaps)


def test_optional_channels_are_taken_where_they_are(tmp_path):
    paths = [write(tmp_path / "tas.nc"), write(tmp_path / "pr.nc", name="pr", units="mm/day", last=20010110)]
    source = open_files("A", paths, [TAS], optional=[PR, Channel("psl"), TAS])
    assert list(source.series) == ["tas"] and any("pr lacks some of the days" in note for note in source.notes)
    source = open_files("A", paths, [PR], optional=[TAS], gaps="skip")
    assert list(source.series) == ["pr", "tas"] and len(source.series["tas"].days) == 10


def test_missing_channels_are_listed_with_candidates(tmp_path):
    paths = [write(tmp_path / "a.nc", name="temp2", attrs={"standard_name": "air_temperature"}, plev=85000.0, units="K")]
    text = refused("ta500, ta700, psl not found", paths, [Channel("ta", 500), Channel("ta", 700), Channel("psl")])
    assert "temp2 (air_temperature, K at 850 hPa)" in text


def test_a_missing_level_is_named_with_those_there(tmp_path):
    path = write(tmp_path / "a.nc", name="ta", plev=(85000.0, 50000.0), dims=LEVELS)
    text = refused("ta700 not found", [path], [Channel("ta", 700), Channel("ta", 850)])
    assert "at 850, 500 hPa" in text


def test_levels_are_taken_by_value(tmp_path):
    data = np.stack([np.full((31, 3, 4), value) for value in (250.0, 270.0, 280.0)], axis=1)
    path = write(tmp_path / "a.nc", name="ta", plev=(500.0, 700.0, 850.0), plev_units="hPa", dims=LEVELS, data=data)
    source = open_files("A", [path], [Channel("ta", level) for level in (850, 500)])
    assert read_all(source, "ta850").mean() == 280.0 and read_all(source, "ta500").mean() == 250.0


def test_one_variable_under_two_names_is_ambiguous(tmp_path):
    paths = [write(tmp_path / "a.nc"), write(tmp_path / "b.nc", name="tg", first=20010201, last=20010228)]
    refused("several names: tas, tg", paths, [TAS])


@pytest.mark.parametrize("dims", [("lat", "time", "lon"), ("time", "lon", "lat"), ("lon", "lat", "time")])
def test_dimensions_in_another_order_are_transposed(tmp_path, dims):
    source = open_files("A", [write(tmp_path / "a.nc", dims=dims)], [TAS])
    np.testing.assert_array_equal(read_all(source), field_of(source.days, LAT, LON).astype(np.float32))
    assert any("transposed" in note for note in source.notes)


def test_dimensions_of_length_one_are_dropped_and_members_refused(tmp_path):
    dims = ("time", "member", "lat", "lon")
    source = open_files("A", [write(tmp_path / "a.nc", dims=dims, sizes={"member": 1})], [TAS])
    assert read_all(source).shape == (31, 3, 4) and any("member" in note for note in source.notes)
    refused("dimension 'member' of length 2", [write(tmp_path / "b.nc", dims=dims, sizes={"member": 2})], [TAS])


def test_data_that_are_not_daily_are_refused(tmp_path):
    twice = np.repeat(days_of(FileSpec()), 2)
    path = write(tmp_path / "a.nc", days=twice, bounds=False)
    with netCDF4.Dataset(path, "a") as file:
        file["time"][:] += np.tile([0.0, 0.25], 31)
    refused("2 times: sub-daily", [path], [TAS])
    monthly = np.array([20010116, 20010215, 20010316])
    refused("not daily", [write(tmp_path / "b.nc", days=monthly, bounds=False)], [TAS])
    refused("2 times with equal time stamps", [write(tmp_path / "c.nc", days=twice)], [TAS])


def test_time_bounds_that_are_no_intervals_are_refused(tmp_path):
    path = write(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"][3] = file["time_bnds"][3][::-1]
    refused("inverted or empty, first at time step 3", [path], [TAS])


def test_months_since_is_refused_with_the_file(tmp_path):
    path = write(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file["time"].units = "months since 2001-01-01"
    assert str(path) in refused("not days, hours", [path], [TAS])


def test_files_on_different_grids_are_refused_and_noise_is_snapped(tmp_path):
    first = write(tmp_path / "a.nc")
    other = write(tmp_path / "b.nc", first=20010201, last=20010228, lat=tuple(np.array(LAT) + 1.0))
    text = refused("different grids, see axis 'lat'", [first, other], [TAS])
    assert str(first) in text and str(other) in text
    write(other, first=20010201, last=20010228, lat=tuple(np.array(LAT) + 1e-5))
    source = open_files("A", [first, other], [TAS])
    assert any("differ by up to 1e-05" in note for note in source.notes)


def test_a_file_replaced_during_the_run_is_refused(tmp_path):
    path = write(tmp_path / "a.nc")
    source = open_files("A", [path], [TAS])
    write(path, last=20010130)
    with pytest.raises(InputDataError, match="replaced while it was in use"):
        read_all(source)


def test_fixed_fields_come_with_their_coordinates(tmp_path):
    orog = write_rotated(tmp_path / "orog.nc", name="orog", fixed=True, units="m")
    land = write_rotated(tmp_path / "land.nc", name="FR_LAND", fixed=True, units="1", standard_name="land_area_fraction")
    with netCDF4.Dataset(land, "a") as file:
        file["FR_LAND"][:] = 0.25
    source = open_files("A", [write_rotated(tmp_path / "tas.nc"), orog, land], [TAS], statics=["orog", "sftlf"], role="rcm")
    statics = source.statics(["orog", "sftlf"])
    values, coordinates = statics["orog"]
    assert values.dtype == np.float32 and values.shape == (4, 5) and values[0, 0] == 280.0
    assert statics["sftlf"][0].max() == 25.0
    assert coordinates["crs"].attrs["grid_mapping_name"] == "rotated_latitude_longitude"
    refused("fixed field sftlf", [tmp_path / "tas.nc", orog], [TAS], statics=["sftlf"])


def test_nothing_is_written_by_opening_or_refusing(tmp_path):
    path = write(tmp_path / "a.nc", units="m")
    before = (sorted(tmp_path.iterdir()), path.read_bytes())
    refused("cannot be converted", [path], [TAS])
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == before


def test_all_bad_files_and_channels_are_told_at_once(tmp_path):
    paths = [write(tmp_path / f"{n}.nc", first=20010101 + 100 * n, last=20010128 + 100 * n) for n in range(3)]
    for path in paths[:2]:
        with netCDF4.Dataset(path, "a") as file:
            file["time"].units = "months since 2001-01-01"
    paths.append(write(tmp_path / "pr.nc", name="pr", units="mm", first=20010301, last=20010328))
    paths.append(write(tmp_path / "psl.nc", name="psl", units="Pa", dims=("time", "member", "lat", "lon"), sizes={"member": 2}))
    text = refused("4 problems in the input data", paths, [TAS, PR, Channel("psl"), Channel("ta", 850)])
    for words in (f"{paths[0]}: time", f"{paths[1]}: time", "sum over an unknown time", "dimension 'member'", "ta850 not found"):
        assert words in text
    assert "tas not found" not in text and "psl not found" not in text


def test_equal_problems_of_many_files_are_one_with_a_line_each(tmp_path):
    paths = [write(tmp_path / f"{n}.nc", first=20010101 + 100 * n, last=20010128 + 100 * n) for n in range(3)]
    for path in paths:
        with netCDF4.Dataset(path, "a") as file:
            file["time"].calendar = "standart"
    text = refused(r"unknown calendar 'standart' \(3 times\)", paths, [TAS])
    assert all(text.count(str(path)) >= 1 for path in paths) and "did you mean 'standard'" in text


def test_files_on_other_grids_are_all_named(tmp_path):
    paths = [write(tmp_path / f"{n}.nc", first=20010101 + 100 * n, last=20010128 + 100 * n) for n in range(2)]
    paths += [write(tmp_path / f"{n}.nc", first=20010101 + 100 * n, last=20010128 + 100 * n, lat=(41.0, 43.0, 45.0)) for n in (2, 3)]
    text = refused("different grids, see axis 'lat': 40..44", paths, [TAS], gaps="skip")
    assert f"{paths[2]}: see axis" in text and f"{paths[3]}: see axis" in text and "0.nc; " in text


def test_hourly_steps_are_averaged_block_by_block(tmp_path):
    days = days_of(FileSpec())
    wave = np.sin(np.arange(24) / 24.0 * 2.0 * np.pi)
    data = (field_of(days, LAT, LON)[:, None] + wave[None, :, None, None]).reshape(-1, 3, 4)
    data[5 * 24 + 7, 1, 1] = np.nan
    path = write(tmp_path / "a.nc", days=np.repeat(days, 24), data=data, bounds=False)
    with netCDF4.Dataset(path, "a") as file:
        file["time"][:] = np.floor(file["time"][:]) + np.tile(np.arange(24) / 24.0, len(days))
    source = open_files("A", [path], [TAS], aggregate="mean")
    series = source.series["tas"]
    fields = read_all(source)
    assert fields.shape == (31, 3, 4) and np.flatnonzero(np.isnan(fields)).tolist() == [5 * 12 + 5]
    np.testing.assert_allclose(np.delete(fields, 5, axis=0), np.delete(field_of(days, LAT, LON), 5, axis=0), rtol=1e-6)
    pieces = np.concatenate([series.read(start, start + 4) for start in range(0, 31, 4)])
    np.testing.assert_array_equal(pieces, fields)
    from downscale.cf import series as module

    small, module._MEAN_BYTES = module._MEAN_BYTES, 1
    try:
        np.testing.assert_array_equal(read_all(source), fields)
    finally:
        module._MEAN_BYTES = small


def test_overlapping_sub_daily_files_are_read_once(tmp_path):
    days = days_of(FileSpec(last=20010110))
    for name, part in (("a", slice(0, 30)), ("b", slice(26, 40))):
        steps = np.repeat(days, 4)[part]
        hours = np.tile([0.0, 0.25, 0.5, 0.75], 10)[part]
        path = write(tmp_path / f"{name}.nc", days=steps, data=field_of(steps, LAT, LON) + hours[:, None, None], bounds=False)
        with netCDF4.Dataset(path, "a") as file:
            file["time"][:] = np.floor(file["time"][:]) + hours
    source = open_files("A", [tmp_path / "a.nc", tmp_path / "b.nc"], [TAS], aggregate="mean")
    np.testing.assert_allclose(read_all(source), field_of(days, LAT, LON) + 0.375, rtol=1e-6)
    assert any("2 days are in two files with equal data" in note for note in source.notes)


def test_fixed_fields_are_taken_whatever_member_is_selected_and_their_conversion_is_noted(tmp_path):
    def said(path, **attributes):
        with netCDF4.Dataset(path, "a") as file:
            file.setncatts(attributes)
        return path

    land = write_rotated(tmp_path / "land.nc", name="FR_LAND", fixed=True, units="1", standard_name="land_area_fraction")
    with netCDF4.Dataset(land, "a") as file:
        file["FR_LAND"][:] = 0.25
    said(land, model_id="M", driving_model_ensemble_member="r0i0p0")
    tas = said(write_rotated(tmp_path / "tas.nc"), model_id="M", driving_model_ensemble_member="r1i1p1")
    other = said(write_rotated(tmp_path / "other.nc"), model_id="M", driving_model_ensemble_member="r2i1p1")
    select = {"driving_model_ensemble_member": "r1i1p1"}
    source = open_files("A", [land, tas, other], [TAS], statics=["sftlf"], select=select)
    assert source.statics(["sftlf"])["sftlf"][0].max() == 25.0
    assert {"A: sftlf: sftlf is FR_LAND", "A: sftlf: converted from '1' to %"} <= set(source.notes)
    refused("driving_model_ensemble_member r1i1p1, r2i1p1", [land, tas, other], [TAS], statics=["sftlf"])


def test_members_of_cmip5_files_are_told_by_their_realization(tmp_path):
    paths = [write(tmp_path / "a.nc"), write(tmp_path / "b.nc", first=20010201, last=20010228)]
    for number, path in enumerate(paths):
        with netCDF4.Dataset(path, "a") as file:
            file.setncatts({"model_id": "HadGEM2-ES", "realization": np.int32(number + 1), "initialization_method": np.int32(1)})
    assert "sources.NAME.select: {realization:" in refused("realization 1, 2", paths, [TAS])


def test_files_that_differ_in_words_and_packing_only_share_their_structure(tmp_path):
    from downscale.cf.catalogue import scan
    from downscale.cf.structure import structure

    attrs = {"scale_factor": 0.01, "add_offset": 280.0, "history": "one"}
    first = write(tmp_path / "a.nc", dtype="i2", fill=-32768, attrs=attrs)
    same = write(
        tmp_path / "b.nc", first=20010201, last=20010228, dtype="i2", fill=-32767, attrs={**attrs, "add_offset": 281.0, "history": "two"}
    )
    other = write(tmp_path / "c.nc", dtype="i2", fill=-32768, attrs=attrs, lat=(40.0, 42.0, 44.5))
    one, two, three = (structure(scan([path])[0]) for path in (first, same, other))
    assert one == two != three
