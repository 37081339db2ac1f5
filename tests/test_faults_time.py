"""T01-T14 through the command line: calendars, missing and repeated days, stamps, bounds, sub-daily steps, sums."""

from __future__ import annotations

import numpy as np
import pytest
from cf_files import Spec, days_of, field_of
from faults import assert_refused, fault
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opening_world import GRIDS, World, edit, global_attributes, notes, rain, six_hourly

from downscale.cf.calendar import expected_days, season_phase
from downscale.cf.open import open_files
from downscale.variables import Channel


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refused(world: World, *words: str) -> str:
    return assert_refused(world.prepare(), *words, untouched=world.results)


def attributes(path, variable, **values):
    edit(path, lambda file: file[variable].setncatts(values))


def calendar_world(folder, calendar, first, last):
    world = World(folder, calendar=calendar, first=first, last=last)
    year = first // 10000
    spans = f'train: ["{year}-01-01/{year}-02-20"], validation: ["{year}-02-21/{year}-03-05"], test: ["{year}-03-06/{year}-12-30"]'
    begin = world.text.index("train: [")
    world.text = world.text[:begin] + spans + world.text[world.text.index(", gap_days") :]
    return world


@fault("T01", "supported from end to end: the pairs keep the calendar, 29 and 30 February are days like others")
def test_360_day(tmp_path):
    world = calendar_world(tmp_path, "360_day", 20010201, 20010330)
    group = world.check().groups["RCM"]
    assert group.calendar == "360_day" and 20010230 in group.days and len(group.days) == 60
    assert len(group.split("train")) == 20 and len(group.split("validation")) == 15
    np.testing.assert_allclose(np.diff(season_phase(group.days, group.calendar)), 1.0 / 360.0)


@fault("T02", "supported from end to end: no 29 February in a leap year, and the day of the year counts 365")
def test_noleap(tmp_path):
    world = calendar_world(tmp_path, "noleap", 20000201, 20000331)
    group = world.check().groups["RCM"]
    assert group.calendar == "noleap" and 20000229 not in group.days and len(group.days) == 59
    np.testing.assert_allclose(np.diff(season_phase(group.days, group.calendar)), 1.0 / 365.0)


@fault("T03", "exit 4 with the files of each calendar")
def test_two_calendars(world):
    world.put("gcm", "tas", last=20010131)
    world.put("gcm", "tas", "later.nc", first=20010201, calendar="360_day")
    text = refused(world, "GCM: 2 calendars in one source: 360_day, standard", "make one source of each run")
    assert "360_day: later.nc" in text and "standard: tas.nc" in text


def test_two_calendars_of_a_pair(world):
    world.put("gcm", "tas", calendar="noleap")
    refused(world, "RCM", "GCM", "calendar", "noleap")


@fault(
    "T04", "a missing attribute is taken as standard with a note, `gregorian` is standard, a misspelt one: exit 4 with the nearest CF name"
)
def test_calendar_attribute(world):
    world.put("gcm", "tas", calendar=None)
    attributes(world.folder / "rcm" / "tas.nc", "time", calendar="gregorian")
    assert "time axis without calendar attribute: taken as standard" in notes(world.check())


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("gregorian_proleptic", "proleptic_gregorian"),
        ("no_leap", "noleap"),
        ("365days", "365_day"),
        ("360", "360_day"),
        ("standart", "standard"),
    ],
)
def test_a_misspelt_calendar(world, wrong, meant):
    path = world.folder / "gcm" / "tas.nc"
    attributes(path, "time", calendar=wrong)
    refused(world, f"unknown calendar '{wrong}'", str(path), f"did you mean '{meant}'?", f"calendar,time,o,c,{meant}")


@fault("T05", "exit 4 listing the missing days, or with `gaps: skip` left out and noted; never filled")
def test_missing_days(world):
    days = np.setdiff1d(days_of(Spec(**world.spec)), [20010110, 20010203, 20010204])
    path = world.put("gcm", "tas", days=days)
    refused(world, "GCM: tas lacks days: 2 gaps, 3 days: 2001-01-10, 2001-02-03 to 2001-02-04", str(path), "missing: {gaps: skip}")
    world.text += "missing: {gaps: skip}\n"
    assert "2 gaps, 3 days: 2001-01-10, 2001-02-03 to 2001-02-04: skipped" in notes(world.check(days))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, 56), min_size=1, max_size=8), st.sampled_from(["standard", "noleap", "360_day", "julian"]))
def test_any_missing_days_are_counted_and_left_out(tmp_path, holes, calendar):
    from cf_files import write

    days = expected_days(20010101, 20010228, calendar)
    path = write(tmp_path / "a.nc", days=np.delete(days, sorted(holes)), calendar=calendar)
    source = open_files("A", [path], [Channel("tas")], gaps="skip")
    np.testing.assert_array_equal(source.days, np.delete(days, sorted(holes)))
    assert any(f"{len(holes)} days:" in note for note in source.notes)


@fault("T06", "exit 4 naming the seam: both files and the missing month")
def test_a_missing_month_at_the_seam(world):
    first = world.put("gcm", "tas", "1_historical.nc", first=20001201, last=20001231)
    global_attributes(first, experiment_id="historical")
    (world.folder / "gcm" / "tas.nc").unlink()
    global_attributes(world.put("gcm", "tas", "2_ssp.nc", first=20010201), experiment_id="ssp585")
    refused(world, "1 gap, 31 days: 2001-01-01 to 2001-01-31", f"seam between {first} and 2_ssp.nc", "add the missing files")


@fault("T07", "equal data: read once, with a note; different data: exit 4 with the day and both files")
def test_days_in_two_files(world):
    world.put("gcm", "tas", last=20010205)
    other = world.put("gcm", "tas", "b.nc", first=20010201)
    assert "5 days are in two files with equal data: read once" in notes(world.check())
    days = days_of(Spec(first=20010201, last=20010228))
    data = field_of(days, *GRIDS["gcm"])
    data[2] += 0.25
    world.put("gcm", "tas", "b.nc", first=20010201, data=data)
    world.text = world.text.replace("workspace: results", "workspace: other")
    text = assert_refused(world.prepare(), "tas: two files hold 2001-02-03 with different data", untouched=world.folder / "other")
    assert str(other) in text and str(world.folder / "gcm" / "tas.nc") in text


@fault("T08", "sorted by their times, whatever the names and the order of the steps")
def test_names_that_are_not_in_order(world):
    (world.folder / "gcm" / "tas.nc").unlink()
    for name, first, last in (("c", 20010101, 20010117), ("a", 20010118, 20010131), ("b", 20010201, 20010228)):
        world.put("gcm", "tas", f"{name}.nc", first=first, last=last)
    world.put("rcm", "pr", days=days_of(Spec(**world.spec))[::-1])
    world.check()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(5)), st.sets(st.integers(1, 58), min_size=4, max_size=4))
def test_any_cut_into_files_under_any_names_is_the_same_series(tmp_path, order, cuts):
    from cf_files import read_all, write

    days = expected_days(20010101, 20010228, "standard")
    for stale in tmp_path.glob("*.nc"):
        stale.unlink()
    for name, part in zip(order, np.split(days, sorted(cuts)), strict=True):
        write(tmp_path / f"{name}.nc", days=part)
    source = open_files("A", [tmp_path / "*.nc"], [Channel("tas")])
    np.testing.assert_array_equal(source.days, days)
    np.testing.assert_array_equal(read_all(source), field_of(days, (40.0, 42.0, 44.0), (0.0, 2.0, 4.0, 6.0)).astype("f4"))


@fault("T09", "paired by day whatever the hour of the stamps; bounds that run from another hour count by their middle, with a note up to "
              "`missing.day_shift_hours`, beyond it exit 4")  # fmt: skip
def test_hours_of_stamps_and_days(world):
    world.put("gcm", "tas", stamp=0.0)
    world.put("rcm", "pr", stamp=1.0)
    path = world.put("rcm", "tas", bounds=False)
    said = notes(world.check())
    assert "no time bounds: each field belongs to the day of its time stamp" in said
    path = world.put("rcm", "pr")
    edit(path, lambda file: file["time_bnds"].__setitem__(slice(None), file["time_bnds"][:] + 0.25))
    world.text = world.text.replace("workspace: results", "workspace: shifted")
    assert "days run from 06:00, +6 h from 00-24 h: each is taken as the day of its middle" in notes(world.check())


def test_days_from_nine_to_nine_are_refused_until_the_config_says_so(world):
    path = world.put("rcm", "pr")
    edit(path, lambda file: file["time_bnds"].__setitem__(slice(None), file["time_bnds"][:] + 0.375))
    refused(world, "days run from 09:00, +9 h from 00-24 h, more than missing.day_shift_hours: 6", str(path), "2001-01-01")
    world.text += "missing: {day_shift_hours: 9}\n"
    assert "+9 h from 00-24 h" in notes(world.check())


def retype(path, kind, units=None):
    """Store the time axis in another type, without bounds."""

    def change(file):
        values, attrs = file["time"][:], {key: file["time"].getncattr(key) for key in ("units", "calendar", "axis")}
        file.renameVariable("time", "old_time")
        file["old_time"].setncatts({"units": "1", "axis": ""})
        for name in ("bounds", "standard_name"):
            if name in file["old_time"].ncattrs():
                file["old_time"].delncattr(name)
        time = file.createVariable("time", kind, ("time",))
        time.setncatts({**attrs, **({"units": units} if units else {})})
        step = 86400.0 if units else 1.0
        time[:] = values * step

    edit(path, change)


@fault("T10", "stamps within a minute before midnight, or within what float32 can tell, are midnight, with a note; `months since`: exit 4")
def test_rough_time_axes(world):
    retype(world.put("gcm", "tas", stamp=0.0), "f4", units="seconds since 1850-01-01")
    world.put("rcm", "tas", stamp=12 / 24 + 18 / 86400, bounds=False)
    world.put("rcm", "pr", stamp=-20 / 86400, bounds=False)
    said = notes(world.check())
    assert "the float32 time axis is precise to 512 s" in said


def test_months_since_and_axes_that_tell_no_days(world):
    path = world.folder / "gcm" / "tas.nc"
    attributes(path, "time", units="months since 2001-01-01")
    refused(
        world, "time units 'months since 2001-01-01' are not days, hours, minutes or seconds since a date", str(path), "cdo -setreftime"
    )
    retype(world.put("gcm", "tas"), "f4")

    def count_from_far(file):
        file["time"].setncatts({"units": "days since -4000-01-01", "calendar": "noleap"})
        file["time"][:] = 6001 * 365 + np.arange(59) + 0.5

    edit(path, count_from_far)
    refused(world, "the float32 time axis cannot tell less than 6 hours apart", str(path), "float64")


@fault("T11", "missing: days by their stamps, with a note; inverted, of another length, or elsewhere than the stamps: exit 4 with the step")
def test_time_bounds(world):
    path = world.put("gcm", "tas")
    edit(path, lambda file: file.renameVariable("time_bnds", "elsewhere"))
    said = notes(world.check())
    assert "the time bounds 'time_bnds' are not in the file: each field belongs to the day of its time stamp" in said


@pytest.mark.parametrize("fault_of", ["inverted", "length", "elsewhere"])
def test_time_bounds_that_are_none(world, fault_of):
    path = world.put("gcm", "tas")

    def inverted(file):
        file["time_bnds"][7] = file["time_bnds"][7][::-1]

    def length(file):
        file.createDimension("three", 3)
        file.createVariable("wrong", "f8", ("time", "three"))[:] = 0.0
        file["time"].bounds = "wrong"

    def elsewhere(file):
        file["time_bnds"][7:] = file["time_bnds"][7:] + 31.0

    edit(path, {"inverted": inverted, "length": length, "elsewhere": elsewhere}[fault_of])
    words = {
        "inverted": "time bounds 'time_bnds' are inverted or empty, first at time step 7",
        "length": "time bounds 'wrong' have shape (59, 3), not (59, 2)",
        "elsewhere": "time bounds and time stamps contradict each other, first at time step 7: +31 days apart",
    }
    refused(world, words[fault_of], str(path), "bounds")


@fault(
    "T12",
    "exit 4 with the day, unless `aggregate: mean`: then means of whole days; with `aggregate: cell_methods` tasmax and tasmin too, of "
    "sub-daily maxima and minima (or hourly values); not sums, and not part of a day",
)
def test_sub_daily_steps(world):
    path = six_hourly(world, "gcm", "tas")
    refused(world, "the file holds 2001-01-01 4 times: sub-daily data", str(path), "sources.NAME.aggregate: mean")
    world.source("GCM", "aggregate: mean")
    assert "daily means of 4 steps a day, values without cell_methods (aggregate: mean)" in notes(world.check())


def test_a_day_may_lie_in_two_files_and_must_be_whole(world):
    path = six_hourly(world, "gcm", "tas", bounds=False)
    cut_at(path, world.folder / "gcm" / "b.nc", 42)
    world.source("GCM", "aggregate: mean")
    world.check()
    (world.folder / "gcm" / "b.nc").unlink()
    six_hourly(world, "gcm", "tas", drop=42)
    world.text = world.text.replace("workspace: results", "workspace: other")
    words = ("tas: 1 day without all 4 steps: 2001-01-11 has 3", "missing: {gaps: skip}")
    assert_refused(world.prepare(), *words, untouched=world.folder / "other")
    world.text += "missing: {gaps: skip}\n"
    days = np.setdiff1d(days_of(Spec(**world.spec)), [20010111])
    assert "1 day without all 4 steps: 2001-01-11 has 3: left out" in notes(world.check(days))


def cut_at(path, other, step):
    """Move the steps from one on into another file."""
    import xarray as xr

    with xr.open_dataset(path, decode_times=False, mask_and_scale=False) as whole:
        whole.load()
    whole.isel(time=slice(step, None)).to_netcdf(other)
    whole.isel(time=slice(step)).to_netcdf(path)


def test_maxima_have_no_mean(world):
    world.change("targets: [{name: pr}]", "targets: [{name: tasmax}]")
    path = six_hourly(world, "rcm", "tasmax")
    world.source("RCM", "aggregate: mean")
    refused(world, "tasmax is a daily maximum: a mean of sub-daily steps is something else", str(path), "cdo -daymax")


def test_one_step_of_six_hours_a_day_is_no_day(world):
    path = world.put("gcm", "tas")
    edit(path, lambda file: file["time_bnds"].__setitem__((slice(None), 1), file["time_bnds"][:, 0] + 0.25))
    refused(world, "the file is not daily: each step spans 6 hours", str(path))
    world.source("GCM", "aggregate: mean")
    refused(world, "tas: most days have 1 step, 24 h apart, that span 6 h: no whole days")


@fault(
    "T13",
    "exit 4: amounts without a time, sums over other times than a day by their bounds or interval, and, when read, fields that only grow",
)
@pytest.mark.parametrize("units", ["kg m-2", "mm", "m"])
def test_amounts_over_an_unknown_time(world, units):
    path = world.put("rcm", "pr", units=units)
    refused(world, f"units '{units}' of pr cannot be converted to mm day-1: a sum over an unknown time", str(path), "assume_units: {pr:")


def test_sums_over_six_hours(world):
    path = six_hourly(world, "rcm", "pr", units="kg m-2", attrs={"cell_methods": "time: sum"})
    world.source("RCM", "aggregate: mean, assume_units: {pr: mm/day}")
    refused(world, "pr is summed over 6 hours, not over a day", str(path), "cdo -daysum")
    path = world.put("rcm", "pr", units="mm", bounds=False, attrs={"cell_methods": "time: sum (interval: 6 hours)"})
    refused(world, "pr is summed over 6 hours", str(path))
    world.put(
        "rcm",
        "pr",
        units="mm",
        data=rain(days_of(Spec(**world.spec)), *GRIDS["rcm"]),
        attrs={"cell_methods": "time: sum (interval: 1 hour)"},
    )
    world.text = world.text.replace("aggregate: mean, ", "")
    world.check()


def test_accumulated_since_the_start(world):
    days = days_of(Spec(**world.spec))
    path = world.put("rcm", "pr", units="mm", data=np.cumsum(rain(days, *GRIDS["rcm"]), axis=0))
    world.source("RCM", "assume_units: {pr: mm/day}")
    result = world.prepare()
    text = assert_refused(result, "pr only ever grows over", "accumulated since the start", str(path), "cdo -deltat")
    assert not (world.results / "pairs.zarr").exists() and "2001-01-01" in text


@fault("T14", "years 1 to 9999 are supported; year 0, and days before 1582-10-15 in the standard calendar: exit 4")
@pytest.mark.parametrize(("calendar", "year"), [("standard", 2300), ("noleap", 1200), ("360_day", 3001)])
def test_far_years(tmp_path, calendar, year):
    world = calendar_world(tmp_path, calendar, year * 10000 + 201, year * 10000 + 320)
    assert world.check().groups["RCM"].days[0] == year * 10000 + 201


@pytest.mark.parametrize(
    ("units", "calendar", "says"),
    [
        ("days since 0000-01-01", "standard", "cannot be read with calendar standard"),
        ("days since 1500-01-01", "proleptic_gregorian", "days before 1582-10-15 are not supported"),
        ("days since -0200-01-01", "noleap", "days before 0001-01-01 are not supported"),
    ],
)
def test_year_zero(world, units, calendar, says):
    path = world.put("gcm", "tas", bounds=False)

    def change(file):
        file["time"].setncatts({"units": units, "calendar": calendar})
        file["time"][:] = np.arange(59) + 0.5

    edit(path, change)
    refused(world, says, str(path))
