"""Fixed fields of a source: orography and land fraction."""

from __future__ import annotations

import logging

import netCDF4
import numpy as np
from numpy.typing import NDArray

from downscale.cf import units
from downscale.cf.coordinates import read_coordinates
from downscale.cf.fields import Decoder, implausible
from downscale.cf.gather import Opening
from downscale.cf.header import FileHeader
from downscale.cf.layout import layout_of
from downscale.cf.names import find_static
from downscale.coordinates import Coordinates
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)


def locate_static(opening: Opening, name: str) -> tuple[FileHeader, str]:
    """The file of a fixed field and its name there; InputDataError when no file holds it (F10) or two of its variables fit (F11)."""
    kinds = {opening.structure_of(header): header for header in reversed(opening.headers)}
    for header in reversed(kinds.values()):
        found = find_static(header, name, opening.renames.get(name))
        if found is not None:
            return header, found
    raise InputDataError(
        f"{opening.name}: fixed field {name} ({lookup(name).standard_name}) not found in {opening.many}",
        where=f"source {opening.name}",
        hint=f"add its file to the source's files, or name it: sources.NAME.variables: {{{name}: NAME_IN_FILE}}",
    )


def read_static(opening: Opening, name: str) -> tuple[NDArray[np.float32], Coordinates]:
    """A fixed field: (y, x) float32 in working units, NaN missing, and its coordinates. Raises InputDataError as Source.statics."""
    header, key = locate_static(opening, name)
    row, variable = lookup(name), header.variables[key]
    layout = layout_of(header, variable, opening.member)
    conversion = units.to_working(row, opening.assume_units.get(name, variable.text("units")))
    decoder = Decoder.of(variable, conversion, opening.fill_values)
    with netCDF4.Dataset(header.path) as dataset:
        dataset.set_auto_maskandscale(False)
        raw = np.asarray(dataset[key][...])
    kept = [dim for dim in layout.dims if dim in (layout.y, layout.x)]
    raw = raw[tuple(slice(None) if dim in kept else layout.index(dim, None) for dim in layout.dims)]
    raw = layout.order(raw if kept == [layout.y, layout.x] else raw.T, (layout.y, layout.x))
    values, missing = decoder.decode(np.ascontiguousarray(raw))
    fault = implausible(Channel(name), values[None])
    if fault is not None:
        lowest, highest = row.valid_range
        raise InputDataError(
            f"{name} holds values from {fault[1]:.6g} to {fault[2]:.6g} {row.units}, plausible are {lowest:g} to {highest:g}",
            where=f"{header.path}: {key}",
            hint=f"wrong units: sources.NAME.assume_units: {{{name}: ...}}",
        )
    said = [f"{name} is {key}"] if key != name else []
    said += [] if conversion.is_identity else [f"converted from '{conversion.source}' to {row.units}"]
    said += [f"{count} undeclared fill values read as missing" for count in (missing.undeclared + missing.extra,) if count]
    coordinates, odd = read_coordinates(header, variable, layout)
    for note in (*said, *layout.notes, *odd):
        opening.notes.append(f"{opening.name}: {name}: {note}")
        log.info("%s", opening.notes[-1])
    return values, coordinates
