"""Weights that were computed before, kept on disk in float64, by the digests of both grids, method, convention, engine and version.

Whatever is wrong with a kept file makes it worthless, never the run. There are no locks: a file is written beside its place and then
renamed. Without a cache folder (``DOWNSCALE_CACHE=off``) nothing is kept and nothing is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from downscale import __version__
from downscale.config.folders import cache_folder
from downscale.grid.grid import Grid
from downscale.grid.weights import Weights

log = logging.getLogger(__name__)
_FORM = "weights 1"
_SUFFIX = ".weights.npz"
_WORTH = 1_000
_MOST_BYTES = 2**30
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error)


def remembered(source: Grid, target: Grid, method: str, edges: str, engine: str, compute: Callable[[], Weights]) -> Weights:
    """Weights from an earlier run, or computed now and kept. Grids of fewer than 1,000 cells together are not worth a file."""
    folder = cache_folder() if source.lat.size + target.lat.size >= _WORTH else None
    if folder is None:
        return compute()
    path = folder / f"{_key(source, target, method, edges, engine)}{_SUFFIX}"
    known = _load(path, source, target, method, engine)
    if known is not None:
        log.info("weights (%s, %s) taken from an earlier run", method, engine)
        return known
    weights = compute()
    try:
        _save(path, weights)
        _shrink(folder)
    except OSError as error:
        log.info("weights are not kept for the next run: %s", error)
    return weights


def _key(source: Grid, target: Grid, method: str, edges: str, engine: str) -> str:
    state = hashlib.sha256("\n".join((_FORM, __version__, method, edges, engine, _exact(source), _exact(target))).encode())
    return state.hexdigest()[:40]


def _exact(grid: Grid) -> str:
    """SHA-256 of every bit of the grid: its own digest is rounded to 1e-9 degree, which would show in the twelfth digit of an integral."""
    state = hashlib.sha256(repr((grid.shape, grid.crs, grid.is_latlon)).encode())
    for values in (grid.lat, grid.lon, grid.lat_corners, grid.lon_corners):
        state.update(b"-" if values is None else np.ascontiguousarray(values, dtype="<f8").tobytes())
    if grid.axes is not None:
        state.update(np.concatenate([grid.axes.y, grid.axes.x]).astype("<f8").tobytes())
    return state.hexdigest()


def _load(path: Path, source: Grid, target: Grid, method: str, engine: str) -> Weights | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            data, indices, indptr, coverage = (kept[name] for name in ("data", "indices", "indptr", "coverage"))
        matrix = csr_array((data, indices, indptr), shape=(target.lat.size, source.lat.size))
        matrix.check_format()
        if data.dtype != np.float64 or coverage.dtype != np.float64 or coverage.shape != target.shape:
            raise ValueError("not the weights of these grids")
    except FileNotFoundError:
        return None
    except _DAMAGE as error:
        log.info("kept weights cannot be used and are computed anew: %s (%s)", path, str(error) or type(error).__name__)
        return None
    return Weights(matrix, source.shape, target.shape, method, coverage, engine=engine)


def _save(path: Path, weights: Weights) -> None:
    matrix = weights.matrix
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, coverage=weights.coverage)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _shrink(folder: Path) -> None:
    """Remove the oldest kept weights where all together are more than 1 GiB."""
    with contextlib.suppress(OSError):
        files = sorted(((path.stat(), path) for path in folder.glob(f"*{_SUFFIX}")), key=lambda one: -one[0].st_mtime)
        total = 0
        for stat, path in files:
            total += stat.st_size
            if total > _MOST_BYTES:
                path.unlink(missing_ok=True)
