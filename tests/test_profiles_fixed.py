"""The cell areas beside CORDEX files: what they are, and who writes them when."""

from __future__ import annotations

import json
import math

import netCDF4
import numpy as np
import pytest
from profile_world import FACETS, small_grid, spec_of, write

from downscale.grid.domains import domain_grid
from downscale.grid.grid import Grid
from downscale.profiles.cordex_fixed import radius
from downscale.profiles.rules import CORDEX_CMIP6


def areas(folder):
    return sorted(folder.rglob("areacella_*.nc"))


def test_areas_are_those_of_the_rotated_cells(tmp_path):
    """A cell between two rotated meridians and parallels has R^2 dlon (sin top - sin bottom)."""
    write("cordex", spec_of(tmp_path, first=20190101, last=20190103))
    (path,) = areas(tmp_path)
    folder = "CORDEX-CMIP6/ESD/EUR-12/CNRM-MF/CNRM-ESM2-1/ssp370/r1i1p1f2/ALADIN-EMUL-1/v1-r1/fx/areacella"
    assert path.parent.parent == tmp_path / folder
    assert path.name == "areacella_EUR-12_CNRM-ESM2-1_ssp370_r1i1p1f2_CNRM-MF_ALADIN-EMUL-1_v1-r1_fx.nc"
    with netCDF4.Dataset(path) as file:
        rows = np.deg2rad(file["rlat_bnds"][:])
        exact = 6371229.0**2 * np.deg2rad(0.11) * (np.sin(rows[:, 1]) - np.sin(rows[:, 0]))
        np.testing.assert_allclose(file["areacella"][:], np.broadcast_to(exact[:, None], small_grid().shape), rtol=2e-6)
        about = file["areacella"]
        assert (about.standard_name, about.units, about.cell_methods, about.grid_mapping) == ("cell_area", "m2", "area: sum", "crs")
        assert (file.frequency, file.variable_id) == ("fx", "areacella") and "external_variables" not in file.ncattrs()
        assert set(CORDEX_CMIP6.required) <= set(file.ncattrs()) and "time" not in file.variables


def test_the_areas_of_a_whole_domain_add_up(tmp_path):
    """EUR-12: 46.64 degrees of rotated longitude times sin(21.945) + sin(23.43)."""
    grid = domain_grid("EUR-12")
    exact = np.deg2rad(424 * 0.11) * (np.sin(np.deg2rad(-23.375 + 411.5 * 0.11)) - np.sin(np.deg2rad(-23.375 - 0.055)))
    assert grid.areas().sum() == pytest.approx(exact, rel=1e-5)


def test_each_experiment_and_member_has_its_areas_once(tmp_path):
    facets = {**FACETS, "driving_experiment_id": "historical,ssp370"}
    first = spec_of(tmp_path, first=20141229, last=20150103, facets=facets, members=("a", "b"), period="one")
    write("cordex", first)
    places = [path.relative_to(tmp_path).parts for path in areas(tmp_path)]
    wanted = [(one, member) for one in ("historical", "ssp370") for member in ("v1-r1", "v1-r2")]
    assert [(parts[5], parts[8]) for parts in places] == wanted
    listed = {entry["path"]: entry for entry in json.loads((tmp_path / "manifest_one.json").read_text())["files"]}
    before = {path: path.stat().st_mtime_ns for path in areas(tmp_path)}
    assert {str(path.relative_to(tmp_path)) for path in before} <= set(listed) and len(before) == 4
    write("cordex", spec_of(tmp_path, first=20150104, last=20150106, facets=facets, members=("a", "b"), period="two", before=20150103))
    assert {path: path.stat().st_mtime_ns for path in areas(tmp_path)} == before
    assert not any("areacella" in entry["path"] for entry in json.loads((tmp_path / "manifest_two.json").read_text())["files"])


def test_a_period_that_begins_the_scenario_has_its_areas(tmp_path):
    facets = {**FACETS, "driving_experiment_id": "historical,ssp370"}
    write("cordex", spec_of(tmp_path, first=20150101, last=20150103, facets=facets, before=20141231))
    assert [path.relative_to(tmp_path).parts[5] for path in areas(tmp_path)] == ["ssp370"]


def test_without_corners_there_are_none_and_it_is_said(tmp_path, caplog):
    whole = small_grid()
    grid = Grid(whole.lat, whole.lon, None, None, whole.axes, whole.crs)
    write("cordex", spec_of(tmp_path, first=20190101, last=20190103, grid=grid))
    assert not areas(tmp_path) and "no areacella is written" in caplog.text


@pytest.mark.parametrize(
    ("crs", "metres"),
    [
        ({"earth_radius": 6370000.0}, 6370000.0),
        ({}, 6371229.0),
        (None, 6371229.0),
        ({"semi_major_axis": 6378137.0}, 6378137.0),
        ({"semi_major_axis": 6378137.0, "inverse_flattening": 298.257223563}, 6371007.1809),
        ({"semi_major_axis": 6378137.0, "semi_minor_axis": 6356752.314245}, 6371007.1809),
    ],
)
def test_the_sphere_has_the_surface_of_the_figure(crs, metres):
    """WGS 84: 6371007.1809 m (the authalic radius, Moritz 2000: 6371007.1810 m for GRS 80)."""
    assert math.isclose(radius(crs), metres, abs_tol=1e-3)
