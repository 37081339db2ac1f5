"""Winds along the grid turned to true east and north: solid-body flow on rotated, projected and bare curvilinear grids."""

from __future__ import annotations

from dataclasses import replace

import netCDF4
import numpy as np
import pytest
from grid_samples import EURO, LAMBERT, box, lambert_km, projected_dataset, rotated
from grid_world import World, files_of, numbers, regional, said

from downscale.errors import InputDataError
from downscale.grid.grid import Grid
from downscale.grid.polygons import unit_vectors
from downscale.grid.winds import turn_of

OMEGA = 20.0 * np.array([0.3, -0.5, 0.8])
"""m/s: the flow OMEGA x P on the unit sphere is known in any frame."""
STEREO = {
    "grid_mapping_name": "polar_stereographic",
    "straight_vertical_longitude_from_pole": -45.0,
    "latitude_of_projection_origin": 90.0,
    "standard_parallel": 70.0,
    "earth_radius": 6371229.0,
}


def along(vectors: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components of vectors (..., 3) to east and north at places, in whatever frame all three are given."""
    lam, phi = np.deg2rad(lon), np.deg2rad(lat)
    east = np.stack([-np.sin(lam), np.cos(lam), 0 * lam], -1)
    north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)], -1)
    return (vectors * east).sum(-1), (vectors * north).sum(-1)


def true_flow(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return along(np.cross(OMEGA, unit_vectors(lat, lon)), lat, lon)


def to_rotated_frame(crs: dict) -> np.ndarray:
    """Rows: axes of the rotated frame in the true one, from the spherical trigonometry of its pole alone."""
    pole = unit_vectors(crs["grid_north_pole_latitude"], crs["grid_north_pole_longitude"])
    lam = np.deg2rad(crs["grid_north_pole_longitude"])
    y = np.array([np.sin(lam), -np.cos(lam), 0.0])
    turned = np.deg2rad(crs.get("north_pole_grid_longitude", 0.0))
    x = np.cross(y, pole)
    return np.stack([np.cos(turned) * x - np.sin(turned) * y, np.cos(turned) * y + np.sin(turned) * x, pole])


def flow_on(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The flow's components along rotated axes, computed in the rotated frame."""
    frame = to_rotated_frame(grid.crs)
    x, y = np.meshgrid(grid.axes.x, grid.axes.y)
    return along(np.cross(frame @ OMEGA, unit_vectors(y, x)), y, x)


SOUTHERN = {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 60.0, "grid_north_pole_longitude": 140.0}


@pytest.mark.parametrize(
    "grid",
    [rotated(), rotated(12, 16, 1.0, -6.0, -8.0, SOUTHERN), rotated(9, 11, 2.0, -8.0, 100.0, {**EURO, "north_pole_grid_longitude": 25.0})],
    ids=["EURO", "south", "turned"],
)
def test_solid_body_flow_on_a_rotated_grid(grid):
    turn = turn_of(grid)
    x_wind, y_wind = flow_on(grid)
    east, north = true_flow(grid.lat, grid.lon)
    assert np.abs(turn.degrees).max() > 4.0
    np.testing.assert_allclose(turn.eastward(x_wind, y_wind), east, atol=2e-12)
    np.testing.assert_allclose(turn.northward(x_wind, y_wind), north, atol=2e-12)


def test_exact_at_the_pole_whatever_meridian_its_longitude_names():
    crs = {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 0.0, "grid_north_pole_longitude": 0.0}
    grid = rotated(5, 5, 1.0, -2.0, -2.0, crs)
    at = np.unravel_index(np.argmax(np.abs(grid.lat)), grid.shape)
    assert abs(grid.lat[at]) > 90.0 - 1e-9
    x_wind, y_wind = flow_on(grid)
    for meridian in (0.0, 77.0, -180.0):
        lon = grid.lon.copy()
        lon[at] = meridian
        turn = turn_of(replace(grid, lon=lon))
        east, north = true_flow(grid.lat, lon)
        np.testing.assert_allclose(turn.eastward(x_wind, y_wind), east, atol=1e-11)
        np.testing.assert_allclose(turn.northward(x_wind, y_wind), north, atol=1e-11)


def test_lambert_turns_by_the_convergence_of_its_meridians():
    grid = lambert_km()
    first, second = np.deg2rad(LAMBERT["standard_parallel"])
    ratio = np.tan(np.pi / 4 + second / 2) / np.tan(np.pi / 4 + first / 2)
    cone = np.log(np.cos(first) / np.cos(second)) / np.log(ratio)
    expected = -cone * (grid.lon - LAMBERT["longitude_of_central_meridian"])
    np.testing.assert_allclose(turn_of(grid).degrees, expected, atol=1e-8)


def test_an_ellipsoid_is_heeded():
    crs = {key: value for key, value in LAMBERT.items() if key != "earth_radius"} | {
        "semi_major_axis": 6378137.0,
        "inverse_flattening": 298.257,
    }
    axes = lambert_km().axes
    grid = Grid.from_dataset(projected_dataset(axes.y, axes.x, crs, ("y", "x"), "km"))
    import pyproj

    convergence = pyproj.Proj(pyproj.CRS.from_cf(crs)).get_factors(grid.lon, grid.lat).meridian_convergence
    np.testing.assert_allclose(turn_of(grid).degrees, -convergence, atol=1e-8)


def test_polar_stereographic_with_a_cell_on_the_pole():
    axis = 25e3 * np.arange(-4.0, 5.0)
    grid = Grid.from_dataset(projected_dataset(axis, axis, STEREO, ("y", "x"), "m"))
    expected = (STEREO["straight_vertical_longitude_from_pole"] - grid.lon + 180.0) % 360.0 - 180.0
    turned = turn_of(grid).degrees
    np.testing.assert_allclose((turned - expected + 180.0) % 360.0, 180.0, atol=1e-6)


def test_without_a_mapping_neighbouring_centres_tell_the_direction():
    grid = rotated(60, 70, 0.11, -4.0, -6.0)
    bare = replace(grid, axes=None, crs=None)
    apart = np.abs(turn_of(bare).degrees - turn_of(grid).degrees)
    assert apart[1:-1, 1:-1].max() < 1e-4 and apart.max() < 0.02
    with pytest.raises(InputDataError, match="mirrored"):
        turn_of(replace(bare, lat=bare.lat[::-1], lon=bare.lon[::-1]))
    with pytest.raises(InputDataError, match="single row"):
        turn_of(replace(bare, lat=bare.lat[:1], lon=bare.lon[:1]))


def test_nothing_turns_on_longitude_and_latitude():
    turn = turn_of(box(0.0, 5.0, 40.0, 45.0, 1.0))
    assert turn.is_none and not turn_of(rotated()).is_none


def test_values_keep_their_kind_and_missing_ones_stay_missing_in_both():
    turn = turn_of(rotated())
    x_wind = np.ones((2, 24, 28), np.float32)
    y_wind = x_wind.copy()
    y_wind[0, 3, 4] = np.nan
    for result in (turn.eastward(x_wind, y_wind), turn.northward(x_wind, y_wind)):
        assert result.dtype == np.float32 and np.flatnonzero(np.isnan(result)).tolist() == [3 * 28 + 4]


# --- through the command line


WIND = ("predictors: [{name: tas}]", "predictors: [{name: tas}, {name: uas}, {name: vas}]")


def windy(folder, grid, *, standard=("grid_eastward_wind", "grid_northward_wind"), only=None, names=("uas", "vas"), changes=()):
    """A world whose RCM has the flow along its rotated grid, and whose GCM the same flow to east and north."""
    coarse = box(4.0, 16.0, 39.0, 51.0, 2.0)
    rcm, gcm = files_of(grid), files_of(coarse)
    for dataset, flow, stated in (
        (rcm, flow_on(grid), standard),
        (gcm, true_flow(coarse.lat, coarse.lon), ("eastward_wind", "northward_wind")),
    ):
        for name, values, said_to_be in zip(names, flow, stated, strict=True):
            if dataset is rcm and only is not None and name != only:
                continue
            daily = values + 0.0 * np.arange(24.0)[:, None, None]
            attrs = {**dataset["tas"].attrs, "units": "m s-1", "standard_name": said_to_be, "coordinates": "height"}
            if not said_to_be:
                del attrs["standard_name"]
            dataset[name] = (dataset["tas"].dims, daily.astype("f4"), attrs)
    for dataset in (rcm, gcm):
        dataset["height"] = ((), 10.0, {"units": "m", "standard_name": "height"})
    return World(folder, rcm, gcm, WIND, *changes)


def assert_true_winds(world: World) -> None:
    store = world.store()
    group = store.groups["RCM"]
    east, north = true_flow(store.coarse.lat, store.coarse.lon)
    for kind, slack in (("perfect", 0.02), ("imperfect", 1e-5)):
        maps = group.predictors(kind, slice(None))
        np.testing.assert_allclose(maps[:, 1], east + 0.0 * maps[:, 1], atol=slack)
        np.testing.assert_allclose(maps[:, 2], north + 0.0 * maps[:, 2], atol=slack)


@pytest.mark.parametrize("standard", [("grid_eastward_wind", "grid_northward_wind"), ("x_wind", "y_wind")])
@pytest.mark.parametrize("names", [("uas", "vas"), ("U_10M", "V_10M")], ids=["known", "discovered"])
def test_prepare_turns_them_before_upscaling(tmp_path, standard, names):
    world = windy(tmp_path, regional(), standard=standard, names=names)
    assert_true_winds(world)
    assert f"RCM: uas, vas are along the grid ({standard[0]}): turned to true east and north, by" in said(world.store())


def test_winds_to_true_east_and_north_stay(tmp_path):
    world = windy(tmp_path, regional(), standard=("eastward_wind", "northward_wind"))
    store = world.store()
    assert "turned" not in said(store)
    east = store.groups["RCM"].predictors("perfect", slice(None))[0, 1]
    assert np.abs(east - true_flow(store.coarse.lat, store.coarse.lon)[0]).max() > 0.1


def test_what_the_files_do_not_say_the_config_may(tmp_path):
    world = windy(tmp_path, regional(), standard=("", ""), changes=[("RCM: {role: rcm,", "RCM: {role: rcm, winds: grid,")])
    assert_true_winds(world)
    assert "(as declared)" in said(world.store())


@pytest.mark.parametrize("target", ["uas", "vas"])
def test_a_wind_as_a_target_is_turned_too(tmp_path, target):
    world = windy(tmp_path, regional(), changes=[("targets: [{name: tas}]", f"targets: [{{name: {target}}}]")])
    store = world.store()
    expected = true_flow(store.fine.lat, store.fine.lon)[target == "vas"]
    np.testing.assert_allclose(numbers(store)["target"], expected + 0.0 * numbers(store)["target"], atol=1e-5)


def test_one_component_alone_is_refused(tmp_path):
    for only in ("uas", "vas"):
        world = windy(tmp_path / only, regional(), only=only)
        world.config.write_text(world.config.read_text().replace(WIND[1], f"predictors: [{{name: tas}}, {{name: {only}}}]"))
        result = world.prepare()
        other = "vas" if only == "uas" else "uas"
        assert result.exit_code == 4 and f"{only} of 'RCM' is along the grid and cannot be turned" in result.output
        assert f"without {other}" in result.output and not world.results.exists()


def test_components_that_disagree_are_refused(tmp_path):
    result = windy(tmp_path, regional(), standard=("grid_eastward_wind", "northward_wind")).prepare()
    assert result.exit_code == 4 and "one is along the grid, the other is not" in result.output and "sources.NAME.winds" in result.output


def test_blocks_of_any_size_read_the_same(tmp_path):
    from downscale.cf.open import open_files
    from downscale.pairs import winds
    from downscale.variables import Channel

    windy(tmp_path, regional())
    channels = [Channel("uas"), Channel("vas")]

    def opened():
        source = open_files("RCM", [tmp_path / "rcm"], channels)
        winds.true_winds(source, channels)
        return source

    source = opened()
    whole = [source.series[name].read(0, 24) for name in ("uas", "vas")]
    pieces = [np.concatenate([source.series[name].read(start, start + 5) for start in range(0, 24, 5)]) for name in ("vas", "uas")][::-1]
    mixed = [np.concatenate([source.series[name].read(start, start + 8) for start in (0, 8, 16)]) for name in ("uas", "vas")]
    for other in (pieces, mixed):
        np.testing.assert_array_equal(np.stack(whole), np.stack(other))
    source.close()
    source.series["uas"].read(0, 24)
    source.series["uas"].forget()
    np.testing.assert_array_equal(source.series["vas"].read(0, 24), whole[1])
    assert winds.held_blocks(source) == 1


def test_a_wind_that_nobody_needs_and_that_cannot_be_turned_is_left_out(tmp_path):
    from downscale.cf.open import open_files
    from downscale.pairs.winds import true_winds
    from downscale.variables import Channel

    windy(tmp_path, regional(), only="uas")
    source = open_files("RCM", [tmp_path / "rcm"], [Channel("tas")], optional=[Channel("uas")])
    true_winds(source, [Channel("tas")])
    assert "uas" not in source.series and any("uas is left out" in note for note in source.notes)


def test_files_are_upscaled_with_the_edges_of_the_training(tmp_path):
    from downscale.apply.feed import Needs, open_feed
    from downscale.training.reading import Holes
    from downscale.variables import Channel

    world = windy(tmp_path, regional(), changes=[("upscale: {to: GCM}", "upscale: {to: GCM, edges: parallels}")])
    store, channel = world.store(), [Channel("tas")]
    maps = store.groups["RCM"].predictors("perfect", slice(None))[:, :1]
    unlike = {}
    for edges in ("parallels", "great_circle"):
        feed = open_feed([tmp_path / "rcm"], Needs(channel, channel, [], store.coarse, 1, 0.5, edges), forcings=None)
        unlike[edges] = np.abs(feed.block(0, 24, Holes())[0].maps - maps).max()
    assert unlike["parallels"] < 1e-4 < unlike["great_circle"]


@pytest.mark.parametrize("cells", [1, 5])
def test_a_run_is_fed_as_it_was_trained(tmp_path, cells):
    """Files of the RCM given to `apply --run`: winds turned and maps smoothed as in prepare."""
    from downscale.apply.feed import Needs, open_feed
    from downscale.training.reading import Holes
    from downscale.variables import Channel

    world = windy(tmp_path, regional(), changes=[("upscale: {to: GCM}", f"upscale: {{to: GCM, smooth: {cells}}}")])
    store = world.store()
    assert store.recipe["upscale"]["smooth"] == cells
    needs = Needs([Channel(name) for name in ("tas", "uas", "vas")], [Channel("tas")], [], store.coarse, cells, 0.5)
    for folder, kind in (("rcm", "perfect"), ("gcm", "imperfect")):
        feed = open_feed([tmp_path / folder], needs, forcings=None)
        maps = store.groups["RCM"].predictors(kind, slice(None))
        np.testing.assert_allclose(feed.block(0, 24, Holes())[0].maps, maps, rtol=1e-6, atol=1e-5)
        assert any("turned to true east" in note for note in feed.source.notes) == (folder == "rcm")


def test_a_wind_is_missing_on_days_that_its_partner_lacks(tmp_path):
    """Files given to apply: u of some days is turned with v of the same days."""
    import xarray as xr

    from downscale.apply.feed import Needs, open_feed
    from downscale.training.reading import Holes
    from downscale.variables import Channel

    store = windy(tmp_path, regional()).store()
    maps = store.groups["RCM"].predictors("perfect", slice(None))
    (path,) = (tmp_path / "rcm").glob("*.nc")
    with xr.open_dataset(path, decode_cf=False) as whole:
        dataset = whole.load()
    (tmp_path / "in").mkdir()
    for name, other, days in (("uas", "vas", slice(4, None)), ("vas", "uas", slice(None, -3))):
        dataset.drop_vars(other).isel(time=days).to_netcdf(tmp_path / "in" / f"{name}.nc")
    needs = Needs([Channel(name) for name in ("tas", "uas", "vas")], [Channel("tas")], [], store.coarse, 1, 0.5)
    feed = open_feed([tmp_path / "in"], needs, forcings=None)
    found = feed.block(0, 24, Holes())[0].maps
    np.testing.assert_allclose(found[4:-3], maps[4:-3], rtol=1e-6, atol=1e-5)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:4, 1:]).all() and np.isnan(found[-3:, 1:]).all()


def test_on_longitude_and_latitude_the_grids_x_is_east(tmp_path):
    """x_wind is the eastward wind there: nothing is turned, and one component is enough."""
    from downscale.cf.open import open_files
    from downscale.pairs.winds import TrueWind, true_winds
    from downscale.variables import Channel

    windy(tmp_path, regional())
    with netCDF4.Dataset(tmp_path / "gcm" / "tas.nc", "a") as file:
        file["uas"].standard_name = "x_wind"
        file["vas"].standard_name = "y_wind"
    for channels in ([Channel("uas")], [Channel("uas"), Channel("vas")]):
        source = open_files("GCM", [tmp_path / "gcm"], channels)
        true_winds(source, channels)
        assert not any(isinstance(series, TrueWind) for series in source.series.values()) and not any("turned" in n for n in source.notes)
