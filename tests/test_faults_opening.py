"""F10-F13, mixed runs and G10 through the command line: which variable, which dimension, which member, which level."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cf_files import Spec, days_of, field_of
from faults import assert_refused, fault
from opening_world import GRIDS, World, edit, global_attributes, notes

LEVELS = ("time", "plev", "lat", "lon")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refused(world: World, *words: str) -> str:
    return assert_refused(world.prepare(), *words, untouched=world.results)


def rename(path, old, new):
    edit(path, lambda file: file.renameVariable(old, new))


@fault("F10", "exit 4, with the candidates of the same standard name in each kind of file; `variables` in the config names the right one")
def test_a_variable_under_another_name(world):
    path = world.put("rcm", "tas", attrs={"standard_name": "air_temperature", "cell_methods": "time: maximum"}, height=2.0)
    rename(path, "tas", "tmp2m")
    text = refused(world, "RCM: tas not found in 2 files", "source RCM", "sources.NAME.variables: {tas: NAME_IN_FILE}")
    assert "tas.nc: tmp2m (air_temperature, K)" in text
    world.source("RCM", "variables: {tas: tmp2m}")
    assert "tas is tmp2m, as the config says" in notes(world.check())


def test_all_missing_channels_of_all_sources_are_told_at_once(world):
    world.change("targets: [{name: pr}]", "targets: [{name: tasmax}]")
    (world.folder / "gcm" / "tas.nc").rename(world.folder / "gcm" / "tas.txt")
    world.put("gcm", "psl", data=np.full((59, 4, 4), 1e5))
    text = refused(world, "2 problems", "RCM: tasmax not found in 2 files", "GCM: tas not found in 1 file")
    assert text.count("NAME_IN_FILE") == 2


@fault("F11", "exit 4 naming all that fit and the file; `variables` in the config chooses")
def test_two_variables_that_match(world):
    def add(file):
        other = file.createVariable("ta2m", "f4", ("time", "lat", "lon"))
        other.setncatts({"standard_name": "air_temperature", "units": "K"})
        other[:] = file["tas"][:]

    edit(world.folder / "rcm" / "tas.nc", add)
    refused(world, "tas: ambiguous, 2 variables fit: tas, ta2m", str(world.folder / "rcm" / "tas.nc"), "variables: {tas: tas}")
    world.source("RCM", "variables: {tas: ta2m}")
    world.check()


def test_one_variable_under_two_names_in_the_files_of_a_run(world):
    world.put("rcm", "tas", last=20010131)
    rename(world.put("rcm", "tas", "more.nc", first=20010201), "tas", "tg")
    refused(world, "tas: ambiguous, files of RCM hold it under several names: tas, tg", "more.nc")


@fault("F12", "transposed and squeezed by CF axis, with a note; the pairs are those of a plain file")
@pytest.mark.parametrize("dims", [("lat", "time", "lon"), ("lon", "lat", "time"), ("time", "ensemble", "lat", "single", "lon")])
def test_dimensions_in_another_order(world, dims):
    world.put("rcm", "pr", dims=dims, sizes={"ensemble": 1, "single": 1})
    world.put("gcm", "tas", dims=dims, sizes={"ensemble": 1, "single": 1})
    said = notes(world.check())
    assert ("transposed from" in said) != ("ensemble" in dims)
    assert ("dimension ensemble of length 1 dropped" in said) == ("ensemble" in dims)


def ensemble(world, source, labels=None, kind="i4", dims=("time", "realization", "lat", "lon")):
    """tas with three members, the second of which is right."""
    lat, lon = GRIDS[source]
    right = field_of(days_of(Spec(**world.spec)), lat, lon)
    data = np.stack([right - 5.0, right, right + 5.0], axis=dims.index("realization"))
    path = world.put(source, "tas", dims=dims, sizes={"realization": 3}, data=data)

    def label(file):
        if kind == "S1":
            file.createDimension("strlen", 8)
            variable = file.createVariable("realization", "S1", ("realization", "strlen"))
            variable[:] = netCDF4.stringtochar(np.array(labels, "S8"))
        else:
            variable = file.createVariable("realization", kind, ("realization",))
            variable[:] = np.array(labels)
        variable.standard_name = "realization"

    if labels is not None:
        edit(path, label)
    return path


@fault("F13", "exit 4 with the dimension and its labels, unless `member` names one by label, or by position where there are no labels")
def test_an_ensemble_without_a_member_asked_for(world):
    path = ensemble(world, "gcm", [1, 2, 3])
    refused(world, "tas has a dimension 'realization' of length 3", str(path), "sources.NAME.member: one of 1, 2, 3")
    world.source("GCM", "member: 7")
    refused(world, "tas has no member 7 along 'realization' (labels: 1, 2, 3)", str(path))


@pytest.mark.parametrize(
    ("labels", "kind", "member"),
    [([11, 12, 13], "i4", "12"), ([1.0, 2.0, 3.0], "f8", "2"), (["r1i1p1f1", "r2i1p1f1", "r10i1p1"], "S1", "r2i1p1f1"), (None, "", "1")],
)
@pytest.mark.parametrize("dims", [("time", "realization", "lat", "lon"), ("realization", "time", "lat", "lon")])
def test_a_member_by_label_or_position(world, labels, kind, member, dims):
    ensemble(world, "gcm", labels, kind, dims)
    world.source("GCM", f"member: {member}")
    assert f"member {member} of dimension realization taken, position 1" in notes(world.check())


def test_a_member_of_a_run_without_an_ensemble_is_refused(world):
    world.source("GCM", "member: 1")
    refused(world, "GCM: member 1 is asked for, and no variable has an ensemble dimension", "remove sources.NAME.member")


def test_files_of_several_members_are_no_run(world):
    world.put("gcm", "tas", last=20010131)
    other = world.put("gcm", "tas", "tas_b.nc", first=20010201)
    first = {"source_id": "MPI-ESM1-2-LR", "institution_id": "MPI-M", "experiment_id": "historical"}
    global_attributes(world.folder / "gcm" / "tas.nc", variant_label="r1i1p1f1", **first)
    global_attributes(other, variant_label="r2i1p1f1", **{**first, "experiment_id": "ssp585"})
    text = refused(
        world, "GCM: files of several runs in one source: variant_label r1i1p1f1, r2i1p1f1", "sources.NAME.select: {variant_label:"
    )
    assert "variant_label r2i1p1f1, 1 file: tas_b.nc" in text
    world.source("GCM", "select: {variant_label: [r1i1p1f1, r2i1p1f1]}")
    said = notes(world.check())
    assert "are taken as one run, as select says" in said
    assert "experiments follow each other: historical 2001-01-01 to 2001-01-31, ssp585 2001-02-01 to 2001-02-28" in said


def test_models_and_drivers_may_not_be_mixed_either(world):
    global_attributes(world.folder / "rcm" / "tas.nc", model_id="A-RCM", driving_model_id="G1", driving_model_ensemble_member="r1i1p1")
    global_attributes(world.folder / "rcm" / "pr.nc", model_id="A-RCM", driving_model_id="G2", driving_model_ensemble_member="r3i1p1")
    text = refused(world, "driving_model_id G1, G2", "driving_model_ensemble_member r1i1p1, r3i1p1")
    assert "model_id A-RCM" not in text.replace("driving_model_id", "")


def test_fixed_fields_of_another_experiment_and_member_belong_to_the_run(world):
    for name in ("tas", "pr"):
        global_attributes(world.folder / "rcm" / f"{name}.nc", model_id="A", driving_model_id="G1", driving_model_ensemble_member="r1i1p1")
    path = world.put("rcm", "orog", last=20010101, data=np.full((1, 16, 16), 100.0), units="m")
    global_attributes(path, model_id="A", driving_model_id="ECMWF-ERAINT", driving_model_ensemble_member="r0i0p0")
    world.change("targets:", "static: [orog]\ntargets:")
    world.check()


def with_level(world, plev, units, *, name="ta", dims=LEVELS, descending=False, value=None, **spec):
    """A predictor on levels in both sources; ta at 850 hPa is the field, another level is 30 K colder."""
    for source in ("rcm", "gcm"):
        lat, lon = GRIDS[source]
        right = field_of(days_of(Spec(**world.spec)), lat, lon)
        data = np.stack([right - 30.0, right], axis=1) if "plev" in dims else right
        if descending and "plev" in dims:
            data = data[:, ::-1]
        world.put(source, name, plev=plev, plev_units=units, dims=dims, data=data, units="K", **spec)
    world.change("predictors: [{name: tas}]", "predictors: [{name: ta, levels: [850]}]")


@fault(
    "G10",
    "levels found by value within 0.5 hPa, in Pa, hPa, millibar or mb, ascending or descending, as a dimension, a scalar or a part of "
    "the name; a missing level: exit 4 with the levels that are there",
)
@pytest.mark.parametrize(
    ("plev", "units", "descending"),
    [
        ((50000.0, 85000.0), "Pa", False),
        ((850.0, 500.0), "hPa", True),
        ((500.0, 849.99), "millibar", False),
        ((850.0, 500.0), "mb", True),
        ((500.0, 850.0), "", False),
    ],
)
def test_levels_are_found_by_value(world, plev, units, descending):
    with_level(world, plev, units, descending=descending)
    said = notes(world.check())
    assert ("level 849.99 hPa is taken as 850 hPa" in said) == (849.99 in plev)
    assert ("levels 'plev' without units: taken as hPa" in said) == (units == "")


@pytest.mark.parametrize(("name", "plev"), [("ta", 85000.0), ("ta850", None), ("ta850", 85000.0)])
def test_one_level_as_a_scalar_or_in_the_name(world, name, plev):
    with_level(world, plev, "Pa", name=name, dims=("time", "lat", "lon"))
    world.check()


def test_a_missing_level_is_told_with_those_there(world):
    with_level(world, (50000.0, 85000.0), "Pa")
    world.change("levels: [850]", "levels: [850, 700]")
    text = refused(world, "2 problems", "RCM: ta700 not found", "GCM: ta700 not found")
    assert "ta.nc: ta (no standard name, K at 500, 850 hPa)" in text
