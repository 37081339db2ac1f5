"""Sparse weights that take fields from one grid to another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_array

from downscale.errors import ConfigError, InputDataError

Norm = Literal["fracarea", "destarea"]
Cells = tuple[slice, slice | np.ndarray]
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Weights:
    """A sparse operator from source cells to target cells.

    Attributes:
        matrix: (n_target, n_source) float64 CSR. Conservative: the overlap areas in steradian; bilinear: shares that add up to 1.
            Only the ratios within a row matter to `apply`.
        source_shape: (ny, nx) of the source.
        target_shape: (Ny, Nx) of the target.
        method: "conservative", "bilinear" or "nearest".
        coverage: (Ny, Nx) fraction of each target cell's area that source cells cover; bilinear and nearest: 1 where the centre lies
            in the source grid, else 0.
        norm: how values are normalised where `apply` is not told.
        engine: what computed them.
    """

    matrix: csr_array
    source_shape: tuple[int, int]
    target_shape: tuple[int, int]
    method: str
    coverage: np.ndarray
    norm: Norm = "fracarea"
    engine: str = "builtin"

    def apply(self, fields: np.ndarray, min_valid_fraction: float = 0.5, *, norm: Norm | None = None) -> np.ndarray:
        """Fields (..., ny, nx) on the target grid (..., Ny, Nx), in the dtype they came in (integers come out as float64).

        The normalisations are SCRIP's (Jones 1999, Mon. Wea. Rev. 127, 2204): "fracarea", the mean over the part of the target cell
        that valid (not NaN) source cells cover; "destarea", the integral over that part divided by the area of the whole target
        cell, which conserves integrals and is too small in cells that are partly covered. Weights are renormalised for each field.
        NaN where valid source cells cover less than `min_valid_fraction` of the target cell, and always where none does. Sums are
        taken in float64.

        Raises:
            InputDataError: the fields are not on the source grid.
            ConfigError: destarea of weights that are not conservative.
        """
        norm = self.chosen_norm(norm)
        fields = np.asarray(fields)
        if fields.shape[-2:] != self.source_shape:
            raise InputDataError(f"fields of shape {fields.shape} do not lie on the weights' source grid {self.source_shape}")
        stack = fields.reshape(-1, self.matrix.shape[1])
        dtype = fields.dtype if np.issubdtype(fields.dtype, np.floating) else np.dtype(np.float64)
        result = np.empty((len(stack), self.matrix.shape[0]), dtype=dtype)
        values = np.empty(stack.shape[1])
        whole, scale, last_missing = np.empty(0), np.empty(0), np.empty(0, bool)
        for index, field in enumerate(stack):
            np.copyto(values, field)
            sums = self.matrix @ values
            if not np.isnan(sums.sum()):  # a gap shows in every cell that it touches
                if not len(whole):
                    whole = self._scale(np.zeros(len(values), bool), min_valid_fraction, norm)
                result[index] = sums * whole
                continue
            missing = np.isnan(values)
            if not np.array_equal(missing, last_missing):
                scale, last_missing = self._scale(missing, min_valid_fraction, norm), missing
            values[missing] = 0.0
            result[index] = (self.matrix @ values) * scale
        return result.reshape(*fields.shape[:-2], *self.target_shape)

    def rows(self) -> csr_array:
        """The matrix with every row that is not empty scaled to add up to 1."""
        total = np.asarray(self.matrix.sum(axis=1)).ravel()
        scaled = self.matrix.copy()
        scaled.data = scaled.data / np.repeat(total, np.diff(scaled.indptr))
        return scaled

    def gather(self) -> tuple[np.ndarray, np.ndarray]:
        """The same operator as source indices (n_target, k) int64 and weights (n_target, k) float64, for use without scipy.

        Weights add up to 1 along each row; unused places have index 0 and weight 0; a target cell without source has NaN weights.
        """
        rows = self.rows()
        used = np.diff(rows.indptr)
        indices = np.zeros((rows.shape[0], max(int(used.max(initial=0)), 1)), dtype=np.int64)
        weights = np.zeros(indices.shape)
        row = np.repeat(np.arange(rows.shape[0]), used)
        place = np.arange(rows.nnz) - np.repeat(rows.indptr[:-1], used)
        indices[row, place] = rows.indices
        weights[row, place] = rows.data
        weights[used == 0] = np.nan
        return indices, weights

    def crop(self, source: Cells | None = None, target: Cells | None = None) -> Weights:
        """The weights between parts of the two grids, rows and columns as for Grid.crop; coverage is what the kept source cells cover."""
        matrix, source_shape, target_shape, coverage = self.matrix, self.source_shape, self.target_shape, self.coverage
        if target is not None:
            kept = np.arange(matrix.shape[0]).reshape(target_shape)[target]
            matrix, target_shape, coverage = matrix[kept.ravel()], (kept.shape[0], kept.shape[1]), coverage[target]
        if source is not None:
            kept = np.arange(matrix.shape[1]).reshape(source_shape)[source]
            before = np.asarray(matrix.sum(axis=1)).ravel()
            matrix, source_shape = csr_array(matrix[:, kept.ravel()]), (kept.shape[0], kept.shape[1])
            after = np.asarray(matrix.sum(axis=1)).ravel()
            share = np.divide(after, before, out=np.zeros_like(after), where=before > 0.0)
            coverage = coverage * (share if self.method == "conservative" else share > 0.0).reshape(target_shape)
        return replace(self, matrix=csr_array(matrix), source_shape=source_shape, target_shape=target_shape, coverage=coverage)

    def chosen_norm(self, norm: Norm | None) -> Norm:
        """The normalisation asked for, or the weights' own; ConfigError where it has no meaning for them."""
        chosen = self.norm if norm is None else norm
        if chosen not in get_args(Norm):
            raise ConfigError(f"unknown normalisation '{chosen}'", hint=f"use one of: {', '.join(get_args(Norm))}")
        if chosen == "destarea" and self.method != "conservative":
            raise ConfigError(f"destarea has no meaning for {self.method} weights", hint="use fracarea, or conservative weights")
        return chosen

    def _scale(self, missing: np.ndarray, min_valid_fraction: float, norm: Norm) -> np.ndarray:
        """Factor of each target cell's weighted sum; NaN where valid cells cover too little."""
        total = np.asarray(self.matrix.sum(axis=1)).ravel()
        valid = self.matrix @ (~missing).astype(np.float64)
        fraction = self.coverage.ravel() * np.divide(valid, total, out=np.zeros_like(valid), where=total > 0.0)
        enough = (valid > 0.0) & (fraction >= min_valid_fraction - _SLACK)
        if norm == "destarea":
            return np.divide(self.coverage.ravel(), total, out=np.full_like(valid, np.nan), where=enough)
        return np.divide(1.0, valid, out=np.full_like(valid, np.nan), where=enough)
