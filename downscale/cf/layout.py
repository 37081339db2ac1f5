"""How a variable lies in its file, and how its array becomes (time, y, x) with y ascending and x eastward without a seam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downscale.cf.axes import axis_of, is_latitude, is_longitude
from downscale.cf.header import FileHeader, VariableHeader, check_plane
from downscale.cf.members import extra_dimension, is_ensemble, member_index
from downscale.errors import InputDataError


@dataclass(frozen=True)
class Layout:
    """The place of every dimension of one variable in one file.

    Attributes:
        dims: dimensions as in the file.
        time, level: their names, or None.
        y, x: the horizontal dimensions.
        y_order, x_order: positions in the file of the rows and columns as they are given out; None where nothing moves.
        y_values, x_values: axis values as they are given out; None where the dimension has no axis.
        notes: what is flipped, wrapped, squeezed or transposed.
        member: dimension of an ensemble and the place on it, or None.
    """

    dims: tuple[str, ...]
    time: str | None
    level: str | None
    y: str
    x: str
    y_order: NDArray[np.int64] | None
    x_order: NDArray[np.int64] | None
    y_values: NDArray[np.float64] | None
    x_values: NDArray[np.float64] | None
    notes: tuple[str, ...]
    member: tuple[str, int] | None = None

    def index(self, dim: str, level: int | None) -> int:
        """Place on a dimension that is neither time nor y nor x."""
        if dim == self.level:
            return level or 0
        return self.member[1] if self.member is not None and dim == self.member[0] else 0

    def order(self, field: NDArray[Any], dims: tuple[str, ...]) -> NDArray[Any]:
        """An array with ``dims`` (y and x among them) in the order of rows and columns given out; others are left alone."""
        for dim, order in ((self.y, self.y_order), (self.x, self.x_order)):
            if order is not None and dim in dims:
                field = np.take(field, order, axis=dims.index(dim))
        return field


def layout_of(header: FileHeader, variable: VariableHeader, member: int | str | None = None, *, any_member: bool = False) -> Layout:
    """The layout of a variable.

    Args:
        header, variable: the variable.
        member: label or position of the ensemble member to take.
        any_member: take the first member where none is asked for: all share the grid.

    Raises:
        InputDataError: no two horizontal dimensions, a dimension besides time, level, y and x and no member asked for or none of
            that name (F13), or axes that are not monotonic.
    """
    roles = _roles(header, variable)
    by_role = {role: dim for dim, role in roles.items() if role != "1"}
    time, level, y, x = (by_role.get(role) for role in "TZYX")
    if y is None or x is None:
        raise InputDataError(
            f"{variable.name} has no two horizontal dimensions",
            where=f"{header.path}: dimensions {', '.join(variable.dims)}",
            hint="unstructured grids are not supported; remap to a grid with rows and columns",
        )
    check_plane(header, variable, (y, x))
    ensemble, place = _member(header, variable, roles, member, any_member)
    notes = [f"dimension {dim} of length 1 dropped" for dim, role in roles.items() if role == "1" and dim != ensemble]
    if ensemble and variable.shape[variable.dims.index(ensemble)] > 1:
        notes.append(f"member {place if member is None else member} of dimension {ensemble} taken, position {place}")
    kept = [dim for dim in variable.dims if dim in (time, level, y, x)]
    if kept != [dim for dim in (time, level, y, x) if dim is not None]:
        notes.append(f"transposed from ({', '.join(variable.dims)})")
    y_values, y_order, y_notes = _rows(header, y)
    x_values, x_order, x_notes = _columns(header, x)
    chosen = (ensemble, place) if ensemble else None
    return Layout(variable.dims, time, level, y, x, y_order, x_order, y_values, x_values, tuple(notes + y_notes + x_notes), chosen)


def _roles(header: FileHeader, variable: VariableHeader) -> dict[str, str]:
    """T, Z, Y, X for each dimension; 1 for one of length 1 that is none of them, E for a longer one."""
    roles: dict[str, str] = {}
    curvilinear = _horizontal_pair(header, variable)
    for dim, length in zip(variable.dims, variable.shape, strict=True):
        role = axis_of(header, dim)
        if curvilinear and dim in curvilinear:
            role = "YX"[curvilinear.index(dim)]
        if role == "N" or role in roles.values() or is_ensemble(header, dim):
            role = "1" if length == 1 else "E"
        roles[dim] = role
    return roles


def _member(
    header: FileHeader, variable: VariableHeader, roles: dict[str, str], member: int | str | None, any_member: bool
) -> tuple[str, int]:
    """The dimension that counts ensemble members and the place on it; an empty name where there is none."""
    extra = [dim for dim, role in roles.items() if role == "E"]
    if any_member:
        return (extra[0], 0) if extra else ("", 0)
    ensembles = [dim for dim in extra if is_ensemble(header, dim)] or extra[:1]
    others = [dim for dim in extra if dim not in ensembles[:1]]
    if others or (ensembles and member is None):
        raise extra_dimension(header, variable, (others or ensembles)[0])
    single = [dim for dim, role in roles.items() if role == "1" and is_ensemble(header, dim)]
    chosen = next(iter(ensembles or single), "")
    if not chosen or member is None:
        return "", 0
    return chosen, member_index(header, variable, chosen, member)


def _horizontal_pair(header: FileHeader, variable: VariableHeader) -> tuple[str, str] | None:
    """Dimensions of the 2-D latitude where neither dimension has an axis of its own that tells y from x."""
    for other in header.variables.values():
        if is_latitude(other) and len(other.dims) == 2 and set(other.dims) <= set(variable.dims):
            first, second = other.dims
            known = (axis_of(header, first), axis_of(header, second))
            return (second, first) if known == ("X", "Y") else (first, second)
    return None


def _rows(header: FileHeader, dim: str) -> tuple[NDArray[np.float64] | None, NDArray[np.int64] | None, list[str]]:
    values = _axis_values(header, dim)
    if values is None or len(values) < 2 or values[1] > values[0]:
        return values, None, []
    return values[::-1].copy(), np.arange(len(values))[::-1].copy(), [f"{dim} is descending: flipped"]


def _columns(header: FileHeader, dim: str) -> tuple[NDArray[np.float64] | None, NDArray[np.int64] | None, list[str]]:
    if dim in header.variables and is_longitude(header.variables[dim]) and dim in header.values:
        return _wrap(header, dim)
    values = _axis_values(header, dim)
    if values is None or len(values) < 2 or values[1] > values[0]:
        return values, None, []
    return values[::-1].copy(), np.arange(len(values))[::-1].copy(), [f"{dim} is descending: flipped"]


def _axis_values(header: FileHeader, dim: str) -> NDArray[np.float64] | None:
    """Strictly monotonic values of an axis, or None when the dimension has none."""
    if dim not in header.values or header.variables[dim].dims != (dim,):
        return None
    values = header.values[dim].astype(np.float64)
    steps = np.diff(values)
    if not np.isfinite(values).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise InputDataError(f"the axis '{dim}' is not strictly monotonic", where=str(header.path), hint="sort the file along it")
    return values


def _wrap(header: FileHeader, dim: str) -> tuple[NDArray[np.float64], NDArray[np.int64] | None, list[str]]:
    """Longitudes eastward without a jump, from [-180, 180) on; a regional cut begins behind the widest gap of the circle."""
    values = header.values[dim].astype(np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return values, None, []
    turned = np.round((values + 180.0) % 360.0 - 180.0, 9)
    turned[turned >= 180.0] -= 360.0
    order = np.argsort(turned, kind="stable")
    ring = turned[order]
    steps = np.diff(ring, append=ring[0] + 360.0)
    if steps.min() <= 1e-6:
        raise InputDataError(f"the axis '{dim}' holds a longitude twice", where=str(header.path), hint="cut the cyclic point off")
    start = (int(np.argmax(steps)) + 1) % len(ring) if steps.max() > 1.5 * np.median(steps) else 0
    order = np.roll(order, -start)
    shift = 360.0 * np.round((np.unwrap(turned[order], period=360.0) - values[order]) / 360.0)
    result = values[order] + shift
    notes = []
    if not np.array_equal(order, np.arange(len(order))):
        notes.append(f"{dim} {values[0]:g}..{values[-1]:g} reordered to {result[0]:g}..{result[-1]:g}")
        return result, order, notes
    if shift.any():
        notes.append(f"{dim} {values[0]:g}..{values[-1]:g} wrapped to {result[0]:g}..{result[-1]:g}")
    return result, None, notes
