"""Which cells take part: boxes, rectangles that are fully covered, and coarser grids made from a fine one."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from downscale.errors import InputDataError
from downscale.grid.axes import Axes
from downscale.grid.cells import Edges
from downscale.grid.conservative import conservative_weights
from downscale.grid.corners import nearest_turn
from downscale.grid.grid import Grid, lonlat_grid
from downscale.grid.interpolate import bilinear_weights
from downscale.grid.polygons import edge_normals, lat_lon, unit_vectors
from downscale.grid.reconcile import centres
from downscale.grid.weight_cache import remembered
from downscale.grid.weights import Weights

log = logging.getLogger(__name__)
Window = tuple[slice, slice]
Cells = tuple[slice, slice | np.ndarray]
FULLY = 1e-6
_NEAR = 1e-6


def covered_box(coverage: np.ndarray, tolerance: float = FULLY) -> Window:
    """Rows and columns of the largest rectangle (by cells) of a (Ny, Nx) coverage that is 1 throughout, within `tolerance`.

    Raises:
        InputDataError: no cell is fully covered (G09).
    """
    return largest_rectangle(coverage >= 1.0 - tolerance, "no cell of the coarse grid is fully covered by the fine grid")


def touched_box(coverage: np.ndarray) -> Window:
    """Rows and columns of the smallest rectangle that holds every cell of a (Ny, Nx) coverage above 0.

    Raises:
        InputDataError: no cell is touched (G09).
    """
    rows, columns = (np.flatnonzero((coverage > 0.0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise InputDataError("the coarse and the fine grid do not overlap", hint="check the sources' domains and upscale.to")
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def across_seam(find: Callable[[np.ndarray], Window], coverage: np.ndarray, grid: Grid) -> Cells:
    """The window that `find` gives for a (Ny, Nx) coverage, as if the seam of a grid around the globe lay where nothing is covered.

    Columns are an index array where the window crosses the grid's seam; `Grid.crop` and `fields[..., y, x]` take both.
    """
    empty = np.flatnonzero(~(coverage > 0.0).any(axis=0))
    if not (goes_around(grid) and len(empty) and coverage[:, 0].any() and coverage[:, -1].any()):
        return find(coverage)
    start = int(empty[0]) + 1
    y, x = find(np.roll(coverage, -start, axis=1))
    return y, columns_from(grid, start + x.start, x.stop - x.start)


def columns_from(grid: Grid, first: int, count: int) -> slice | np.ndarray:
    """Columns from a first one eastward: a slice, or an index array where they cross the seam of a grid around the globe."""
    width = grid.shape[1]
    first %= width
    if first + count <= width or not goes_around(grid):
        return slice(first, first + count)
    return (first + np.arange(count)) % width


def goes_around(grid: Grid) -> bool:
    """True for a lat/lon grid whose columns fill the circle."""
    if grid.axes is None or not grid.is_latlon or grid.shape[1] < 3:
        return False
    steps = np.abs(np.diff(grid.axes.x))
    return bool(abs(steps.sum() + np.median(steps) - 360.0) < 0.5 * np.median(steps))


def largest_rectangle(mask: np.ndarray, otherwise: str = "no cell is left") -> Window:
    """Rows and columns of the largest rectangle of True cells in a (ny, nx) mask; the first by row, then by column, of equal ones.

    Raises:
        InputDataError: there is none; its message is `otherwise`.
    """
    height = np.zeros(mask.shape[1], dtype=np.int64)
    best, window = 0, (slice(0, 0), slice(0, 0))
    for row in range(mask.shape[0]):
        height = np.where(mask[row], height + 1, 0)
        area, columns, rows = _largest_under(height.tolist())
        if area > best:
            best, window = area, (slice(row + 1 - rows, row + 1), columns)
    if not best:
        raise InputDataError(otherwise, hint="check that the two grids overlap, and the configured boxes")
    return window


def _largest_under(heights: list[int]) -> tuple[int, slice, int]:
    """Largest rectangle under a histogram: its area, its columns and its height, in one pass with a stack of rising bars."""
    best: tuple[int, slice, int] = (0, slice(0, 0), 0)
    rising: list[tuple[int, int]] = []
    for column, height in enumerate([*heights, 0]):
        start = column
        while rising and rising[-1][1] > height:
            start, tall = rising.pop()
            if tall * (column - start) > best[0]:
                best = (tall * (column - start), slice(start, column), tall)
        if not rising or rising[-1][1] < height:
            rising.append((start, height))
    return best


def cells_inside(fine: Grid, coarse: Grid, edges: Edges = "great_circle") -> np.ndarray:
    """(ny, nx) True where a fine cell lies wholly inside the union of the coarse cells; without corners, where its centre does."""
    if fine.lat_corners is None or coarse.lat_corners is None:
        log.info("cells without corners: a cell counts as inside when its centre lies in the other grid")
        return bilinear_weights(coarse, fine).coverage > 0.0
    weights = remembered(coarse, fine, "conservative", edges, "builtin", lambda: conservative_weights(coarse, fine, edges=edges))
    return weights.coverage >= 1.0 - FULLY


def inside_box(fine: Grid, coarse: Grid, edges: Edges = "great_circle") -> Window:
    """Rows and columns of the largest rectangle of fine cells that lie inside the coarse grid.

    Raises:
        InputDataError: no fine cell does (G09).
    """
    return largest_rectangle(cells_inside(fine, coarse, edges), "no cell of the fine grid lies inside the coarse box")


def require_covered(coverage: np.ndarray, what: str, tolerance: float = FULLY) -> None:
    """Nothing when a (Ny, Nx) coverage is 1 throughout.

    Raises:
        InputDataError: it is not; the message gives the uncovered fraction and `what` is not covered (G09).
    """
    lacking = coverage < 1.0 - tolerance
    if lacking.any():
        uncovered = float(np.mean(1.0 - np.minimum(coverage, 1.0)))
        raise InputDataError(
            f"{what} is not covered: {uncovered:.2%} of its area, {int(lacking.sum())} of {lacking.size} cells not wholly",
            hint="make the box smaller, or leave it out to use the largest covered rectangle",
        )


def box_slices(grid: Grid, lon_min: float, lon_max: float, lat_min: float, lat_max: float) -> tuple[slice, slice | np.ndarray]:
    """Rows and columns of the cells of a lat/lon grid whose centres lie in the box, west to east from `lon_min`.

    Longitudes count modulo 360. Columns are an index array where the box crosses the grid's seam; `fields[..., y, x]` and
    `Grid.crop` take both.

    Raises:
        InputDataError: the grid has no lat/lon axes, or no centre lies in the box.
    """
    if grid.axes is None or not grid.is_latlon:
        raise InputDataError("a longitude-latitude box needs a grid with lat/lon axes", where=grid.place, hint="give cell ranges instead")
    rows = np.flatnonzero((grid.axes.y >= lat_min - _NEAR) & (grid.axes.y <= lat_max + _NEAR))
    width = lon_max - lon_min
    east_of_start = np.mod(grid.axes.x - lon_min + _NEAR, 360.0)
    columns = np.flatnonzero(east_of_start <= (width if width >= 0 else width + 360.0) + 2 * _NEAR)
    if not rows.size or not columns.size:
        raise InputDataError(
            f"no cell centre lies in the box {lon_min:g}..{lon_max:g} E, {lat_min:g}..{lat_max:g} N",
            where=grid.place,
            hint="check the order [lon_min, lon_max, lat_min, lat_max]",
        )
    y = slice(int(rows[0]), int(rows[-1]) + 1)
    if (np.diff(columns) == 1).all() and (np.diff(east_of_start[columns]) * np.sign(grid.axes.x[-1] - grid.axes.x[0]) >= 0).all():
        return y, slice(int(columns[0]), int(columns[-1]) + 1)
    return y, columns[np.argsort(east_of_start[columns], kind="stable")]


def coarsen_grid(fine: Grid, n: int) -> tuple[Grid, Weights]:
    """The grid of n x n blocks of fine cells, and the weights of its area-weighted means; nested exactly.

    Rows and columns left over at the end are dropped. A block takes the outermost corners of its corner cells.

    Raises:
        InputDataError: the grid has no corners, or fewer than n rows or columns.
    """
    ny, nx = fine.shape[0] // n, fine.shape[1] // n
    if not ny or not nx:
        raise InputDataError(
            f"blocks of {n} x {n} cells do not fit into a grid of {fine.shape[0]} x {fine.shape[1]}",
            where="upscale.to: {coarsen: N}",
            hint="choose a smaller N or fewer relaxation cells",
        )
    if (ny * n, nx * n) != fine.shape:
        log.info("coarsening by %d drops %d rows and %d columns at the end", n, fine.shape[0] - ny * n, fine.shape[1] - nx * n)
    kept = fine.crop(slice(0, ny * n), slice(0, nx * n))
    areas = np.zeros(fine.shape)
    areas[: ny * n, : nx * n] = kept.areas()
    y, x = np.divmod(np.flatnonzero(areas.ravel()), fine.shape[1])
    entries = areas[y, x], ((y // n) * nx + x // n, y * fine.shape[1] + x)
    matrix = csr_array(entries, shape=(ny * nx, areas.size))
    return _merged(kept, n), Weights(matrix, fine.shape, (ny, nx), "conservative", np.ones((ny, nx)))


def _merged(fine: Grid, n: int) -> Grid:
    """The grid of n x n blocks; the fine shape is a multiple of n."""
    axes = fine.axes and Axes(
        fine.axes.y_name, _block_means(fine.axes.y, n), fine.axes.x_name, _block_means(fine.axes.x, n), fine.axes.y_attrs, fine.axes.x_attrs
    )
    centre = unit_vectors(fine.lat, fine.lon)
    blocks = centre.reshape(fine.shape[0] // n, n, fine.shape[1] // n, n, 3).mean(axis=(1, 3))
    if axes is not None and fine.is_latlon:
        lon, lat = np.meshgrid(axes.x, axes.y)
    elif axes is not None and fine.crs is not None:
        lat, lon = centres(fine.crs, axes)
    else:
        lat, lon = lat_lon(blocks)
    lat_corners, lon_corners = _outer_corners(fine, blocks, n)
    return Grid(lat, lon, lat_corners, nearest_turn(lon_corners, lon[..., None]), axes, fine.crs)


def _outer_corners(fine: Grid, blocks: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the corner cells of each block, the corners farthest from the block's centre, in the fine cells' own order."""
    lat, lon = fine.corners("coarsening")
    vectors = fine.corner_vectors()
    ends = (slice(0, None, n), slice(n - 1, None, n))
    result_lat, result_lon = np.empty((*blocks.shape[:2], 4)), np.empty((*blocks.shape[:2], 4))
    for y in ends:
        for x in ends:
            farthest = np.linalg.norm(vectors[y, x] - blocks[:, :, None, :], axis=-1).argmax(axis=-1)[..., None]
            for values, result in ((lat[y, x], result_lat), (lon[y, x], result_lon)):
                np.put_along_axis(result, farthest, np.take_along_axis(values, farthest, axis=-1), axis=-1)
    return result_lat, result_lon


def _block_means(values: np.ndarray, n: int) -> np.ndarray:
    return values.reshape(-1, n).mean(axis=1)


def regular_grid(resolution: float, fine: Grid) -> Grid:
    """The smallest lon-lat grid that covers the fine grid, its edges whole multiples of `resolution` degrees.

    Raises:
        InputDataError: the grid has no corners, or goes around the globe, which `resolution` does not divide.
    """
    west, east, south, north = _extent(fine)
    low_y, high_y = _multiples(south, north, resolution)
    low_x, high_x = _multiples(west, east, resolution)
    lat_edges = np.clip(resolution * np.arange(low_y, high_y + 1), -90.0, 90.0)
    if (high_x - low_x) * resolution > 360.0 + _NEAR:
        raise InputDataError(
            f"a grid around the globe cannot have cells of {resolution:g} degrees", hint="use a resolution that divides 360"
        )
    lon_edges = resolution * np.arange(low_x, high_x + 1)
    return lonlat_grid(lat_edges, lon_edges)


def _multiples(low: float, high: float, step: float) -> tuple[int, int]:
    return int(np.floor(low / step + 1e-9)), int(np.ceil(high / step - 1e-9))


def _extent(fine: Grid) -> tuple[float, float, float, float]:
    """West, east, south and north of the cells, midpoints of slanting edges included; all longitudes when a cell holds a pole."""
    lat, lon = fine.corners("a grid around it")
    if fine.is_latlon:
        return float(lon.min()), float(lon.max()), float(lat.min()), float(lat.max())
    corners = fine.corner_vectors()
    lat_mid, lon_mid = lat_lon(corners + np.roll(corners, -1, axis=-2))
    lat, lon = np.append(lat, lat_mid), np.append(lon, lon_mid)
    south_pole, north_pole = (_holds(corners, np.array([0.0, 0.0, sign])) for sign in (-1.0, 1.0))
    south = -90.0 if south_pole else float(lat.min())
    north = 90.0 if north_pole else float(lat.max())
    west, width = (-180.0, 360.0) if south_pole or north_pole else _arc(lon)
    return west, west + width, south, north


def _holds(corners: np.ndarray, point: np.ndarray) -> bool:
    """True when one of the cells (ny, nx, 4, 3) holds the point, its edges included."""
    within = (edge_normals(corners) @ point >= -1e-12).all(axis=-1)
    return bool((within & (corners @ point > 0.0).all(axis=-1)).any())


def _arc(lon: np.ndarray) -> tuple[float, float]:
    """Western end (-180..180) and width of the shortest arc that holds all longitudes."""
    turned = np.unique(np.mod(lon + 180.0, 360.0) - 180.0)
    gaps = np.diff(np.append(turned, turned[0] + 360.0))
    widest = int(gaps.argmax())
    if widest == len(turned) - 1:
        return float(turned[0]), float(turned[-1] - turned[0])
    return float(turned[widest + 1]), float(360.0 - gaps[widest])
