"""Engines behind one call: built in, xESMF (a stand-in, and the real one where it is), files of ESMF, xESMF and CDO; the cache; domains."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import netCDF4
import numpy as np
import pytest
import xarray as xr
from grid_samples import EURO, box, globe, lambert_km, projected_dataset, rotated, smooth_field
from scipy.sparse import coo_array

from downscale.errors import ConfigError, DownscaleError, EnvironmentMissingError, InputDataError
from downscale.grid.conservative import conservative_weights
from downscale.grid.domains import domain_grid, domain_names
from downscale.grid.engines import make_weights
from downscale.grid.grid import Grid, lonlat_grid, same_grid
from downscale.grid.nearest import nearest_weights
from downscale.grid.weight_files import read_stored, stored_grid
from downscale.grid.weight_layouts import write_weights
from downscale.grid.xesmf_engine import nodes

SOURCE, TARGET = rotated(), box(-12.0, 21.0, 30.0, 63.0, 1.5)
BUILTIN = make_weights(SOURCE, TARGET, engine="builtin")
needs_xesmf = pytest.mark.skipif(importlib.util.find_spec("esmpy") is None, reason="esmpy (conda only) is not installed")
needs_cdo = pytest.mark.skipif(shutil.which("cdo") is None, reason="cdo is not installed")


def largest(first, second) -> float:
    return float(abs(first - second).max())


def upside_down(grid: Grid) -> Grid:
    return grid.crop(slice(None, None, -1), slice(None))


# ---- the call


def test_built_in_is_the_function_of_its_name():
    assert largest(BUILTIN.matrix, conservative_weights(SOURCE, TARGET).matrix) == 0.0
    parallels = make_weights(SOURCE, TARGET, engine="builtin", edges="parallels")
    assert largest(parallels.matrix, conservative_weights(SOURCE, TARGET, edges="parallels").matrix) == 0.0
    assert largest(parallels.rows(), BUILTIN.rows()) > 1e-6
    assert make_weights(SOURCE, TARGET, engine="builtin", method="bilinear").method == "bilinear"
    assert BUILTIN.engine == "builtin"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "file"}, "go together"),
        ({"weights_file": "w.nc"}, "go together"),
        ({"engine": "xesmf", "edges": "parallels"}, "great circle"),
        ({"method": "bilinear", "edges": "parallels"}, "no meaning"),
        ({"method": "patch"}, "unknown method"),
        ({"engine": "cdo"}, "unknown engine"),
    ],
)
def test_options_that_exclude_one_another_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        make_weights(SOURCE, TARGET, **options)


# ---- xESMF


class StandIn:
    """What xESMF 0.9.2's Regridder gives, from nodes and centres alone: a sparse matrix, normalised by the target's areas."""

    def __init__(self, ds_in, ds_out, method, periodic=False):
        assert method == "conservative"
        self.ds_in, self.ds_out = ds_in, ds_out
        weights = conservative_weights(self.grid(ds_in), self.grid(ds_out))
        matrix = coo_array(weights.matrix)
        data = matrix.data / self.grid(ds_out).areas().ravel()[matrix.row]
        self.weights = SimpleNamespace(data=SimpleNamespace(coords=np.stack([matrix.row, matrix.col]), data=data))

    @staticmethod
    def grid(dataset):
        corners = []
        for name in ("lat_b", "lon_b"):
            node = dataset[name].values
            corners.append(np.stack([node[:-1, :-1], node[:-1, 1:], node[1:, 1:], node[1:, :-1]], axis=2))
        return Grid(dataset["lat"].values, dataset["lon"].values, *corners)


@pytest.fixture
def stand_in(monkeypatch):
    xesmf, esmpy = ModuleType("xesmf"), ModuleType("esmpy")
    xesmf.Regridder = StandIn
    monkeypatch.setitem(sys.modules, "xesmf", xesmf)
    monkeypatch.setitem(sys.modules, "esmpy", esmpy)


@pytest.mark.parametrize("engine", ["xesmf", "auto"])
def test_xesmf_weights_become_the_same_object(stand_in, engine):
    weights = make_weights(SOURCE, TARGET, engine=engine)
    assert weights.engine == "xesmf"
    assert largest(weights.matrix, BUILTIN.matrix) < 1e-17
    assert largest(weights.coverage, BUILTIN.coverage) < 1e-12


@pytest.mark.skipif(importlib.util.find_spec("esmpy") is not None, reason="esmpy is installed")
def test_without_esmpy_xesmf_is_refused_and_auto_is_built_in():
    with pytest.raises(EnvironmentMissingError, match="conda") as error:
        make_weights(SOURCE, TARGET, engine="xesmf")
    assert error.value.code == 5
    assert make_weights(SOURCE, TARGET).engine == "builtin"


def test_edges_that_esmf_does_not_know_are_built_in(stand_in):
    assert make_weights(SOURCE, TARGET, edges="parallels").engine == "builtin"


@needs_xesmf
@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
def test_real_xesmf_agrees(method):
    ours, theirs = (make_weights(SOURCE, TARGET, method=method, engine=engine) for engine in ("builtin", "xesmf"))
    assert theirs.engine == "xesmf"
    if method == "conservative":
        inside = np.flatnonzero(ours.coverage.ravel() > 1.0 - 1e-9)
        assert abs(theirs.rows() - ours.rows()).tocsr()[inside].max() <= 1e-9
        assert largest(theirs.coverage, ours.coverage) <= 1e-9
    both = (ours.coverage > 0.9) & (theirs.coverage > 0.9)
    difference = np.abs(theirs.apply(smooth_field(SOURCE)) - ours.apply(smooth_field(SOURCE)))[both]
    assert both.sum() > 50 and difference.max() < (1e-9 if method == "conservative" else 1e-2)


@pytest.mark.parametrize(
    "grid", [rotated(7, 9), lambert_km(6, 8), box(0.0, 8.0, 40.0, 46.0, 2.0), globe(30.0)], ids=["rotated", "lambert", "box", "globe"]
)
@pytest.mark.parametrize("turned", [False, True])
def test_nodes_are_where_cells_meet(grid, turned):
    grid = upside_down(grid) if turned else grid
    lat, lon = nodes(grid)
    assert lat.shape == (grid.shape[0] + 1, grid.shape[1] + 1) and np.isfinite(lat + lon).all()
    again = StandIn.grid(
        {"lat_b": xr.DataArray(lat), "lon_b": xr.DataArray(lon), "lat": xr.DataArray(grid.lat), "lon": xr.DataArray(grid.lon)}
    )
    np.testing.assert_allclose(np.abs(again.areas()), grid.areas(), rtol=1e-12)
    if not grid.is_latlon:
        inner = np.stack([lat[1:-1, 1:-1], lon[1:-1, 1:-1]])
        between = 0.25 * sum(grid.lat[a : a + grid.shape[0] - 1, b : b + grid.shape[1] - 1] for a in (0, 1) for b in (0, 1))
        assert np.abs(inner[0] - between).max() < 0.05


def test_cells_with_gaps_have_no_nodes():
    lat, lon = np.meshgrid([40.0, 42.0], [0.0, 2.0], indexing="ij")
    corner = np.array([-0.5, -0.5, 0.5, 0.5]), np.array([-0.5, 0.5, 0.5, -0.5])
    with pytest.raises(InputDataError, match="share their corners"):
        nodes(Grid(lat, lon, lat[..., None] + corner[0], lon[..., None] + corner[1]))


# ---- files


@pytest.mark.parametrize("norm", ["fracarea", "destarea"])
@pytest.mark.parametrize("layout", ["esmf", "scrip"])
@pytest.mark.parametrize("edges", ["great_circle", "parallels"])
def test_written_weights_come_back(tmp_path, layout, norm, edges):
    path = tmp_path / "w.nc"
    weights = make_weights(SOURCE, TARGET, engine="builtin", edges=edges)
    write_weights(path, weights, SOURCE, TARGET, norm=norm, edges=edges, layout=layout)
    again = make_weights(SOURCE, TARGET, engine="file", weights_file=path)
    assert largest(again.matrix, weights.matrix) < 1e-18 and again.norm == norm
    assert largest(again.coverage, weights.coverage) < 1e-14
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.nc"]
    if layout == "esmf":
        assert SOURCE.digest == stored_grid(path, "source").digest
        assert TARGET.digest == stored_grid(path, "target").digest


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("layout", ["esmf", "scrip"])
def test_other_methods_come_back_too(tmp_path, method, layout):
    source, target = globe(6.0), box(3.0, 33.0, 20.0, 50.0, 2.0)
    weights = make_weights(source, target, method=method, engine="builtin")
    write_weights(tmp_path / "w.nc", weights, source, target, layout=layout)
    again = make_weights(source, target, method=method, engine="file", weights_file=tmp_path / "w.nc")
    assert largest(again.matrix, weights.matrix) == 0.0 and (again.coverage == weights.coverage).all()
    with pytest.raises(InputDataError, match=f"holds {method} weights"):
        make_weights(source, target, engine="file", weights_file=tmp_path / "w.nc")


def test_the_written_layout_is_what_xesmf_reads(tmp_path):
    """xesmf.smm.read_weights: variables col, row and S, from 1, row by row; 4-byte addresses and 8-byte weights."""
    write_weights(tmp_path / "w.nc", BUILTIN, SOURCE, TARGET, norm="destarea")
    with xr.open_dataset(tmp_path / "w.nc") as file:
        assert {"col", "row", "S"} <= set(file.variables) and file["S"].dtype == np.float64
        field = smooth_field(SOURCE)
        row, column = file["row"].values - 1, file["col"].values - 1
        product = np.zeros(TARGET.lat.size)
        np.add.at(product, row, file["S"].values * field.ravel()[column])
        assert file.attrs["normalization"] == "destarea" and dict(file.sizes)["n_a"] == SOURCE.lat.size
        np.testing.assert_allclose(file["frac_b"].values, BUILTIN.coverage.ravel())
        np.testing.assert_allclose(file["frac_a"].values, 1.0, rtol=1e-12)
    expected = BUILTIN.apply(field, 0.0, norm="destarea").ravel()
    np.testing.assert_allclose(product[~np.isnan(expected)], expected[~np.isnan(expected)], rtol=1e-13)


def test_rows_in_another_order_are_matched(tmp_path):
    write_weights(tmp_path / "w.nc", BUILTIN, SOURCE, TARGET)
    source, target = upside_down(SOURCE), TARGET.crop(slice(None), np.roll(np.arange(TARGET.shape[1]), 5))
    weights = make_weights(source, target, engine="file", weights_file=tmp_path / "w.nc")
    assert largest(weights.matrix, make_weights(source, target, engine="builtin").matrix) < 1e-16


def bare(path, weights, *, values=None, **changes):
    """A file as xESMF's to_netcdf writes it, weights as given or normalised by area."""
    matrix = coo_array(weights.rows())
    data = matrix.data * weights.coverage.ravel()[matrix.row] if values is None else values
    arrays = {"S": data, "row": matrix.row + 1, "col": matrix.col + 1} | changes
    xr.Dataset({name: ("n_s", array) for name, array in arrays.items()}).to_netcdf(path)
    return path


def test_a_file_without_places_is_held_against_the_grids(tmp_path):
    path = bare(tmp_path / "w.nc", BUILTIN)
    assert largest(make_weights(SOURCE, TARGET, engine="file", weights_file=path).matrix, BUILTIN.matrix) < 1e-16
    turned = upside_down(SOURCE)
    weights = make_weights(turned, TARGET, engine="file", weights_file=path)
    assert largest(weights.matrix, make_weights(turned, TARGET, engine="builtin").matrix) < 1e-16
    elsewhere = TARGET.crop(slice(None), np.roll(np.arange(TARGET.shape[1]), 5))
    with pytest.raises(InputDataError, match="for other grids") as error:
        make_weights(SOURCE, elsewhere, engine="file", weights_file=path)
    assert error.value.code == 4


def test_rows_that_all_add_up_to_one_take_their_coverage_from_the_grids(tmp_path):
    path = bare(tmp_path / "w.nc", BUILTIN, values=coo_array(BUILTIN.rows()).data)
    weights = make_weights(SOURCE, TARGET, engine="file", weights_file=path)
    assert largest(weights.coverage, BUILTIN.coverage) == 0.0


def test_nan_weights_of_xesmf_mean_unmapped(tmp_path):
    matrix = coo_array(BUILTIN.rows())
    unmapped = np.setdiff1d(np.arange(TARGET.lat.size), matrix.row)
    arrays = {
        "S": np.append(matrix.data * BUILTIN.coverage.ravel()[matrix.row], np.full(len(unmapped), np.nan)),
        "row": np.append(matrix.row, unmapped) + 1,
        "col": np.append(matrix.col, np.zeros(len(unmapped), int)) + 1,
    }
    xr.Dataset({name: ("n_s", array) for name, array in arrays.items()}).to_netcdf(tmp_path / "w.nc")
    weights = make_weights(SOURCE, TARGET, engine="file", weights_file=tmp_path / "w.nc")
    assert largest(weights.matrix, BUILTIN.matrix) < 1e-16


def damaged(path, kind):
    ones = coo_array(BUILTIN.rows())
    if kind == "garbage":
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    elif kind == "no weights":
        xr.Dataset({"tas": ("x", [1.0])}).to_netcdf(path)
    elif kind == "absent":
        pass
    else:
        changes = {
            "address": {"col": np.where(ones.col == 3, -5, ones.col + 1)},
            "size": {"col": ones.col + 1 + SOURCE.lat.size},
            "infinite": {"S": np.where(ones.col == 3, np.inf, ones.data)},
        }[kind]
        bare(path, BUILTIN, **changes)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("garbage", "cannot be read"),
        ("absent", "cannot be read"),
        ("no weights", "not a weight file"),
        ("address", "addresses lie outside"),
        ("size", "the grids have"),
        ("infinite", "missing, infinite"),
    ],
)
def test_bad_files_are_refused(tmp_path, kind, words):
    with pytest.raises(InputDataError, match=words):
        make_weights(SOURCE, TARGET, engine="file", weights_file=damaged(tmp_path / "w.nc", kind))


def test_second_order_and_newer_files_are_refused(tmp_path):
    write_weights(tmp_path / "w.nc", BUILTIN, SOURCE, TARGET)
    with netCDF4.Dataset(tmp_path / "w.nc", "a") as file:
        file.downscale_weights = np.int32(99)
    with pytest.raises(EnvironmentMissingError, match="newer"):
        read_stored(tmp_path / "w.nc")
    write_weights(tmp_path / "s.nc", BUILTIN, SOURCE, TARGET, layout="scrip")
    with xr.open_dataset(tmp_path / "s.nc") as file:
        wide = file.load().drop_vars("remap_matrix")
    wide["remap_matrix"] = (("num_links", "num_weights"), np.ones((BUILTIN.matrix.nnz, 3)))
    wide.to_netcdf(tmp_path / "t.nc")
    with pytest.raises(InputDataError, match="first-order"):
        read_stored(tmp_path / "t.nc")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(DownscaleError, match="cannot write"):
        write_weights(tmp_path / "folder.nc", BUILTIN, SOURCE, TARGET)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.nc"]


# ---- references


@pytest.fixture(scope="module")
def reference():
    folder = __import__("conftest").SHARED / "reference" / "regrid"
    if not folder.is_dir():
        pytest.skip(f"reference weights are not here: {folder}")
    with xr.open_dataset(folder / "target_1p40625.nc") as file:
        target = lonlat_grid(file["lat_b"].values, file["lon_b"].values)
    return folder, domain_grid("EUR-44"), target


@pytest.mark.parametrize("name", ["conservative", "conservative_normed"])
def test_weights_of_esmf_by_file_are_ours(reference, name):
    folder, source, target = reference
    theirs = make_weights(source, target, engine="file", weights_file=folder / f"weights_esmf_eur44_{name}.nc")
    ours = make_weights(source, target, engine="builtin")
    assert largest(theirs.matrix, ours.matrix) < 1e-14
    assert largest(theirs.coverage, ours.coverage) < 1e-12


@pytest.mark.parametrize("field", ["smooth", "random"])
@pytest.mark.parametrize(
    ("weights", "result", "norm"),
    [
        ("weights_esmf_eur44_conservative.nc", "regridded_esmf_eur44_conservative.nc", "destarea"),
        ("weights_esmf_eur44_conservative.nc", "regridded_esmf_eur44_conservative_normed.nc", "fracarea"),
        ("weights_esmf_eur44_conservative_normed.nc", "regridded_esmf_eur44_conservative.nc", "destarea"),
        ("weights_cdo_eur44_lonlat_fracarea_gencon.nc", "regridded_cdo_eur44_lonlat_fracarea_gencon.nc", "fracarea"),
    ],
)
def test_weights_of_others_give_what_others_make_of_them(reference, field, weights, result, norm):
    folder, source, target = reference
    with xr.open_dataset(folder / "source_eur44.nc") as fields, xr.open_dataset(folder / result) as expected:
        values = make_weights(source, target, engine="file", weights_file=folder / weights).apply(fields[field].values, 0.0, norm=norm)
        mapped = ~np.isnan(values)
        assert mapped.sum() == 1820
        assert np.abs(values - expected[field].values)[mapped].max() < 1e-12
        assert np.isin(expected[field].values[~mapped], [0.0]).all() or np.isnan(expected[field].values[~mapped]).all()


# ---- CDO, live


@needs_cdo
@pytest.mark.parametrize("norm", ["fracarea", "destarea"])
def test_cdo_remaps_with_our_weights(tmp_path, norm):
    source, target = upside_down(box(-10.0, 20.0, 35.0, 60.0, 1.0)), box(-12.0, 21.0, 33.0, 63.0, 1.5)
    weights = make_weights(source, target, engine="builtin")
    write_weights(tmp_path / "w.nc", weights, source, target, norm=norm, layout="scrip")
    field = smooth_field(source)
    for name, grid in (("source", source), ("target", target)):
        values = field if name == "source" else np.zeros(target.shape)
        grid.to_dataset().assign(f=(("lat", "lon"), values)).to_netcdf(tmp_path / f"{name}.nc", format="NETCDF3_CLASSIC")
    command = ["cdo", "-s", "-P", "1", "-f", "nc", "remap,target.nc,w.nc", "source.nc", "out.nc"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with xr.open_dataset(tmp_path / "out.nc") as file:
        expected = weights.apply(field, 0.0, norm=norm)
        np.testing.assert_allclose(file["f"].values, expected, atol=1e-13)


# ---- nearest


def test_nearest_takes_the_nearest_centre_inside_the_source_only():
    target = box(-30.0, 30.0, 25.0, 70.0, 3.0)
    weights = nearest_weights(SOURCE, target)
    result = weights.apply(SOURCE.lat)
    inside = ~np.isnan(result)
    assert 10 < inside.sum() < target.lat.size
    covered = conservative_weights(SOURCE, target).coverage
    assert inside[covered > 0.99].all() and not inside[covered == 0.0].any()
    assert np.abs(result - target.lat)[inside].max() < 0.44


@pytest.mark.parametrize("grid", [rotated(10, 11), globe(15.0), lambert_km(8, 9)], ids=["rotated", "globe", "lambert"])
def test_nearest_on_the_same_grid_is_the_identity(grid):
    field = np.random.default_rng(0).normal(size=grid.shape)
    np.testing.assert_array_equal(nearest_weights(grid, grid).apply(field), field)
    bare_grid = Grid(grid.lat, grid.lon, grid.lat_corners, grid.lon_corners)
    np.testing.assert_array_equal(nearest_weights(bare_grid, grid).apply(field), field)


def test_nearest_crosses_the_seam_and_keeps_the_first_of_equals():
    source = globe(10.0)
    target = Grid(np.array([[5.0, 0.0]]), np.array([[359.0, 180.0]]))
    np.testing.assert_array_equal(nearest_weights(source, target).apply(source.lon), [[355.0, 175.0]])
    assert nearest_weights(source, target).apply(source.lat)[0, 1] == -5.0


def test_nearest_without_any_cells_is_refused():
    lat, lon = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    with pytest.raises(InputDataError, match="neither axes nor corners"):
        nearest_weights(Grid(lat, lon), TARGET)


# ---- the cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


LARGE = rotated(100, 110, 0.11), box(-15.0, 15.0, 35.0, 60.0, 1.5)


def test_weights_are_kept_and_taken_again(cache, monkeypatch):
    first = make_weights(*LARGE, engine="builtin")
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("downscale.grid.engines.conservative_weights", None)
    again = make_weights(*LARGE, engine="builtin")
    assert largest(first.matrix, again.matrix) == 0.0 and again.matrix.dtype == np.float64
    np.testing.assert_array_equal(first.coverage, again.coverage)


@pytest.mark.parametrize("change", ["edges", "source", "target", "version"])
def test_other_weights_are_not_taken_for_them(cache, monkeypatch, change):
    make_weights(*LARGE, engine="builtin")
    source, target, edges = *LARGE, "great_circle"
    if change == "edges":
        edges = "parallels"
    elif change == "source":
        source = rotated(100, 110, 0.11, west=-12.0 + 1e-10)
    elif change == "target":
        target = box(-15.0, 15.0, 35.0, 59.0, 1.5)
    else:
        monkeypatch.setattr("downscale.grid.weight_cache.__version__", "99")
    fresh = make_weights(source, target, engine="builtin", edges=edges)
    assert largest(fresh.matrix, conservative_weights(source, target, edges=edges).matrix) == 0.0
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "flipped"])
def test_a_damaged_cache_is_passed_over(cache, damage):
    first = make_weights(*LARGE, engine="builtin")
    (kept,) = cache.iterdir()
    data = kept.read_bytes()
    changed = {"cut": data[: len(data) // 2], "garbage": b"PK" + bytes(50), "empty": b""}
    middle = len(data) // 2
    kept.write_bytes(changed.get(damage, data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]))
    assert largest(first.matrix, make_weights(*LARGE, engine="builtin").matrix) == 0.0
    assert kept.read_bytes()[:2] == b"PK" and len(kept.read_bytes()) == len(data)


def test_small_grids_and_a_cache_that_is_off_leave_no_file(cache, monkeypatch):
    make_weights(rotated(15, 15, 0.8), TARGET, engine="builtin")
    assert not list(cache.glob("*"))
    monkeypatch.setenv("DOWNSCALE_CACHE", "off")
    make_weights(*LARGE, engine="builtin")
    assert not list(cache.glob("*"))


# ---- domains


def test_a_domain_is_the_grid_that_its_files_hold():
    grid = domain_grid("EUR-12")
    assert grid.shape == (412, 424)
    assert (grid.axes.x[0], grid.axes.y[0]) == (-28.375, -23.375)
    assert (grid.axes.x[-1], grid.axes.y[-1]) == pytest.approx((18.155, 21.835))
    by_hand = Grid.from_dataset(projected_dataset(-23.21 + 0.44 * np.arange(103), -28.21 + 0.44 * np.arange(106), EURO))
    assert same_grid(by_hand, domain_grid("EUR-44"), 1e-9)
    np.testing.assert_allclose(domain_grid("EUR-44").lat_corners, by_hand.lat_corners, atol=1e-9)


@pytest.mark.parametrize(("old", "new"), [("EUR-11", "EUR-12"), ("eur-44", "EUR-50"), ("AFR-22", "AFR-25"), ("EUR-44i", "EUR-50i")])
def test_older_names_are_understood(old, new):
    assert domain_grid(old).digest == domain_grid(new).digest


@pytest.mark.parametrize("name", [name for name in domain_names() if "-50" in name or name == "EUR-12i"])
def test_every_domain_has_corners_around_its_centres(name):
    grid = domain_grid(name)
    areas = grid.areas()
    assert (areas > 0.0).all() and np.abs(grid.lat).max() < 90.0
    assert areas.sum() < 4.0 * np.pi


def test_coarser_domains_nest_in_finer_ones():
    fine, coarse = domain_grid("MED-12"), domain_grid("MED-50")
    edges = [grid.axes.x[0] - 0.5 * (grid.axes.x[1] - grid.axes.x[0]) for grid in (fine, coarse)]
    assert edges[0] == pytest.approx(edges[1], abs=1e-9)


def test_an_unknown_domain_names_those_that_are_close():
    with pytest.raises(ConfigError, match="close: EUR-12"):
        domain_grid("EUR-13")
