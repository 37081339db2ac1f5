"""What netCDF files say about themselves, as facts for a person: one file in full, many files as runs. No field is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from downscale.cf.axes import axis_of
from downscale.cf.calendar import iso
from downscale.cf.coordinates import read_coordinates
from downscale.cf.days import file_days, gaps, spans
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.inventory import Gap, Overlap, Seam, VariableInventory, inventory
from downscale.cf.layout import layout_of
from downscale.cf.levels import levels_of
from downscale.cf.survey import grid_words, survey
from downscale.cf.taken import taken_in
from downscale.errors import InputDataError

_SHOWN = (
    "title", "institution_id", "source_id", "model_id", "driving_source_id", "driving_model_id", "experiment_id", "driving_experiment_id",
    "variant_label", "driving_variant_label", "domain_id", "CORDEX_domain", "frequency", "source", "comment", "tracking_id",
    "creation_date", "downscale_version", "downscale_model_id", "downscale_model_training", "downscale_config_sha256",
)  # fmt: skip
_LONGEST = 160


def file_facts(header: FileHeader) -> dict[str, Any]:
    """One file: ``file`` and ``time and grid`` as name -> words, ``variables`` as rows."""
    with netCDF4.Dataset(header.path) as dataset:
        form = dataset.data_model
        chunks = {name: _storage(dataset[name]) for name in header.variables}
    fields = [v for v in header.variables.values() if _is_field(header, v)]
    taken = taken_in(header)
    history = str(header.attrs.get("history", "")).strip().splitlines()
    facts = {"format": form, "size": f"{header.size:,} bytes"}
    facts |= {key: _short(str(header.attrs[key])) for key in _SHOWN if str(header.attrs.get(key, "")).strip()}
    facts |= {"history": _short(history[0])} if history else {}
    return {
        "file": facts,
        "time and grid": _time_and_grid(header, fields),
        "variables": [_row(header, v, chunks[v.name], taken) for v in fields],
    }


def run_facts(headers: Sequence[FileHeader]) -> list[dict[str, Any]]:
    """Many files, one entry a run: ``run`` as name -> words, ``variables`` as rows, ``dates`` of gaps, overlaps and seams as lines."""
    runs, left_out = survey(headers)
    found: list[dict[str, Any]] = []
    for run in runs:
        files = set(run.files)
        own = [header for header in headers if header.path in files]
        held = inventory(own)
        facts = {"what": f"{run.role} ({run.why})", "model": run.model, "driven by": run.driver, "member": run.member}
        facts |= {"experiments": ", ".join(run.experiments), "calendar": run.calendar, "grid": run.grid, "files": str(len(run.files))}
        facts |= {"fixed fields": ", ".join(run.static), "units": "; ".join(doubt.reason for doubt in run.doubts)}
        found.append({
            "name": run.name,
            "run": {key: value for key, value in facts.items() if value},
            "variables": _variable_rows(held, _channels(own)),
            "dates": _dates(held),
            "notes": list(dict.fromkeys(note for one in held for note in one.notes)),
        })  # fmt: skip
    if left_out:
        found.append({"name": "no daily series", "files": left_out})
    return found


def _channels(headers: Sequence[FileHeader]) -> dict[str, list[str]]:
    """Name in the files -> our channels in it."""
    found: dict[str, dict[str, None]] = {}
    for header in headers:
        for name, variable in taken_in(header).items():
            found.setdefault(variable, {})[name] = None
    return {name: list(channels) for name, channels in found.items()}


def _variable_rows(held: Sequence[VariableInventory], channels: dict[str, list[str]]) -> list[dict[str, str]]:
    """A row for all variables with the same days; the names come last, they may be many."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in held:
        span = (iso(one.first), iso(one.last)) if one.days else ("-", "-")
        key = (*span, *(str(number) for number in (one.days, one.files, len(one.gaps), len(one.overlaps), len(one.seams))))
        taken = channels.get(one.name, [])
        as_what = "" if taken == [one.name] else f" = {' '.join(taken)}" if taken else " (not in the variable table)"
        rows.setdefault(key, []).append(f"{one.name}{as_what} [{', '.join(units or 'no units' for units in one.units)}]")
    names = ("first", "last", "days", "files", "gaps", "overlaps", "seams")
    return [{**dict(zip(names, key, strict=True)), "variables": ", ".join(variables)} for key, variables in rows.items()]


def _dates(held: Sequence[VariableInventory]) -> list[str]:
    """Gaps, overlaps and seams with their dates, each once with the variables that it holds for."""
    lines: dict[str, list[str]] = {}
    for one in held:
        events: list[Gap | Overlap | Seam] = [*one.seams, *one.gaps, *one.overlaps]
        for event in events:
            lines.setdefault(_event(event), []).append(one.name)
    return [f"{line} ({'all variables' if len(names) == len(held) > 1 else ', '.join(names)})" for line, names in lines.items()]


def _event(event: Gap | Overlap | Seam) -> str:
    if isinstance(event, Seam):
        missing = f", {event.missing} days missing between them" if event.missing else ""
        return f"seam: {event.before} ends {iso(event.last)}, {event.after} begins {iso(event.first)}{missing}"
    span = iso(event.first) if event.first == event.last else f"{iso(event.first)} to {iso(event.last)}"
    if isinstance(event, Gap):
        return f"gap: {span}, {event.days} day{'s' * (event.days != 1)}"
    files = f"{event.one.path.name} and {event.other.path.name}"
    return f"{'copy' if event.copy else 'overlap'}: {span}, {event.days} day{'s' * (event.days != 1)}, {files}"


def _is_field(header: FileHeader, variable: VariableHeader) -> bool:
    """A variable with horizontal dimensions that is not a coordinate of another."""
    named = {name for v in header.variables.values() for key in ("coordinates", "bounds", "grid_mapping") for name in v.text(key).split()}
    axes = [axis_of(header, dim) for dim in variable.dims]
    return variable.is_number and len(variable.dims) >= 2 and variable.name not in named and {"Y", "X"} <= set(axes)


def _row(header: FileHeader, variable: VariableHeader, storage: str, taken: dict[str, str]) -> dict[str, str]:
    levels = levels_of(header, variable)
    hpa = (
        "" if levels is None else f" at {', '.join(f'{value:g}' for value in levels.hpa[:12])}{' ...' if len(levels.hpa) > 12 else ''} hPa"
    )
    means = [name for name, found in taken.items() if found == variable.name]
    return {
        "name": variable.name,
        "taken as": ", ".join(means) or "-",
        "units": variable.text("units") or "none",
        "shape": " x ".join(f"{dim} {size}" for dim, size in zip(variable.dims, variable.shape, strict=True)),
        "stored": storage,
        "is": f"{variable.text('standard_name') or variable.text('long_name') or 'no standard name'}{hpa}"
        + (f" ({variable.text('cell_methods')})" if variable.text("cell_methods") else ""),
    }


def _time_and_grid(header: FileHeader, fields: Sequence[VariableHeader]) -> dict[str, str]:
    facts: dict[str, str] = {}
    timed = next((v for v in fields if any(axis_of(header, dim) == "T" for dim in v.dims)), None)
    if timed is not None:
        facts |= _time(header, timed)
    for variable in fields[:1]:
        try:
            coordinates, notes = read_coordinates(header, variable, layout_of(header, variable))
        except InputDataError as error:
            facts["grid"] = f"not understood: {error.message}"
            continue
        facts["grid"] = grid_words(coordinates)
        facts |= {"grid notes": "; ".join(notes)} if notes else {}
    return facts


def _time(header: FileHeader, variable: VariableHeader) -> dict[str, str]:
    dim = next(dim for dim in variable.dims if axis_of(header, dim) == "T")
    time = header.variables.get(dim)
    said = {"calendar": (time.text("calendar") or "not stated (standard)") if time else "no time variable"}
    try:
        table = file_days(header, variable)
    except InputDataError as error:
        values = header.values.get(dim, np.empty(0))
        return {**said, "time": f"{values.size} step{'s' * (values.size != 1)}; {error.message}"}
    if not len(table.days):
        return {**said, "time": "no step"}
    days = np.unique(table.days)
    found = gaps(days, table.calendar)
    said["time"] = f"{iso(days[0])} to {iso(days[-1])}, {len(days)} days, {len(table.days)} steps"
    said |= {"gaps": spans(found)} if found else {}
    return said | ({"time notes": "; ".join(table.notes)} if table.notes else {})


def _storage(variable: netCDF4.Variable) -> str:
    chunks = variable.chunking()
    filters = variable.filters() or {}
    packed = hasattr(variable, "scale_factor") or hasattr(variable, "add_offset")
    parts = [f"{variable.dtype}{' packed' if packed else ''}"]
    parts += ["contiguous"] if chunks == "contiguous" or chunks is None else [f"chunks {' x '.join(map(str, chunks))}"]
    return ", ".join(parts + ([f"deflate {filters['complevel']}"] if filters.get("zlib") else []))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def is_netcdf(path: Path) -> bool:
    """Whether the first bytes are those of a netCDF file."""
    with path.open("rb") as stream:
        start = stream.read(8)
    return start[:3] == b"CDF" or start == b"\x89HDF\r\n\x1a\n"
