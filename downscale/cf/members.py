"""Ensembles in one file: which dimension counts the members, and where the one asked for lies (F13)."""

from __future__ import annotations

from typing import Any

import netCDF4
import numpy as np

from downscale.cf.header import FileHeader, VariableHeader
from downscale.errors import InputDataError

_NAMES = ("member", "members", "member_id", "ensemble", "ensemble_member", "ens", "realization", "realisation", "run", "number")


def is_ensemble(header: FileHeader, dim: str) -> bool:
    """Whether a dimension counts ensemble members, by its axis attribute, standard name or name."""
    variable = header.variables.get(dim)
    if variable is not None and (variable.text("axis").upper() == "E" or variable.text("standard_name") == "realization"):
        return True
    return dim.lower() in _NAMES


def extra_dimension(header: FileHeader, variable: VariableHeader, dim: str) -> InputDataError:
    """The error for a dimension besides time, level, y and x when no member was asked for."""
    length = variable.shape[variable.dims.index(dim)]
    labels = member_labels(header, variable, dim)
    have = f"one of {_shown(labels)}" if labels else f"0 to {length - 1}"
    return InputDataError(
        f"{variable.name} has a dimension '{dim}' of length {length} besides time, level, y and x",
        where=str(header.path),
        hint=f"say which member: sources.NAME.member: {have}",
    )


def member_index(header: FileHeader, variable: VariableHeader, dim: str, member: int | str) -> int:
    """Place of a member on its dimension: by its label, or by its position where the dimension has no labels.

    Raises:
        InputDataError: there is no such member.
    """
    length, labels = variable.shape[variable.dims.index(dim)], member_labels(header, variable, dim)
    if labels:
        found = [index for index, label in enumerate(labels) if label == str(member).strip()]
        if len(found) == 1:
            return found[0]
        there, kind = _shown(labels), "label"
    else:
        position = int(member) if str(member).strip().isdecimal() else -1
        if 0 <= position < length:
            return position
        there, kind = f"0 to {length - 1}", "position"
    raise InputDataError(
        f"{variable.name} has no member {member} along '{dim}' ({kind}s: {there})",
        where=str(header.path),
        hint=f"choose one of them: sources.NAME.member: {kind.upper()}",
    )


def member_labels(header: FileHeader, variable: VariableHeader, dim: str) -> list[str]:
    """Labels of the members as text, numbers without a fraction as integers; empty when nothing labels them."""
    along = [v for v in header.variables.values() if v.dims[:1] == (dim,) and v is not variable and _labels(v)]
    named = variable.text("coordinates").split()
    along = [v for v in along if v.name == dim or v.text("standard_name") == "realization" or v.name in named or v.name in _NAMES]
    along.sort(key=lambda v: (v.name != dim, v.text("standard_name") != "realization"))
    return _read(header, along[0]) if along else []


def _labels(variable: VariableHeader) -> bool:
    """Whether a variable has one number or one word for each member."""
    return len(variable.dims) == 1 or (len(variable.dims) == 2 and not variable.is_number)


def _read(header: FileHeader, variable: VariableHeader) -> list[str]:
    with netCDF4.Dataset(header.path) as dataset:
        dataset.set_auto_maskandscale(False)
        dataset[variable.name].set_auto_chartostring(False)
        values: Any = dataset[variable.name][...]
    if len(variable.dims) == 2:
        values = netCDF4.chartostring(values)
    texts = [str(value).strip().strip("\x00") for value in np.asarray(values).tolist()]
    return [text.removesuffix(".0") for text in texts] if variable.is_number else texts


def _shown(labels: list[str], most: int = 12) -> str:
    return ", ".join(labels[:most]) + (f" ... ({len(labels)})" if len(labels) > most else "")
