"""Which files belong to one model run: by their attributes or names, each experiment, member and start of a forecast by itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from downscale.cf.catalogue import scan
from downscale.cf.header import FileHeader
from downscale.cf.identity import identify
from downscale.errors import InputDataError

log = logging.getLogger(__name__)
_FORECAST = re.compile(r"_(s\d{4,8})-r\d+i\d+p\d+")
_EXPERIMENT = ("experiment_id", "driving_experiment_id", "driving_experiment_name")
_SUB_EXPERIMENT = ("sub_experiment_id", "driving_sub_experiment_id")


@dataclass(frozen=True)
class FileSet:
    """Files of one model run, a label for it, and what they say of it."""

    label: str
    paths: Sequence[Path]
    facets: Mapping[str, str]


def shared_facets(paths: Sequence[Path]) -> dict[str, str]:
    """What all files of one model run say of it; of several experiments, joined by a comma, the historical one comes first."""
    sets = [_set(headers) for headers in _by_run(paths).values()]
    if not sets:
        return {}
    shared = {key: value for key, value in sets[0].facets.items() if all(one.facets.get(key) == value for one in sets)}
    named = sorted({one.facets.get("experiment_id", "") for one in sets} - {""})
    return {**shared, "experiment_id": ",".join(named)} if named else shared


def file_sets(inputs: Sequence[Path]) -> list[FileSet]:
    """Files by model run, experiment and start of the forecast, in the order of their labels.

    Raises:
        InputDataError: two runs would have the same label, or no file has a time axis.
    """
    sets: dict[str, FileSet] = {}
    for key, headers in _by_run(inputs).items():
        one = _set(headers)
        if one.label in sets:
            raise InputDataError(
                f"two model runs among the files would both be called {one.label}",
                where=f"{sets[one.label].paths[0]}; {one.paths[0]}",
                hint="apply to them one after the other, each with its own -o",
                findings=[" ".join(part for part in key if part)],
            )
        sets[one.label] = one
    if not sets:
        named = ", ".join(map(str, inputs[:3]))
        raise InputDataError("none of the files has a time axis", where=named, hint="give daily fields of a model run")
    return list(sets.values())


def _by_run(inputs: Sequence[Path]) -> dict[tuple[str, ...], list[FileHeader]]:
    """Files with a time axis, by run; fixed fields belong to none."""
    found: dict[tuple[str, ...], list[FileHeader]] = {}
    for header in scan(inputs):
        if not any(" since " in variable.text("units") for variable in header.variables.values()):
            log.info("%s: no time axis, left out", header.path)
            continue
        found.setdefault((*identify(header).run, _stated(header, _EXPERIMENT), _forecast(header)), []).append(header)
    return dict(sorted(found.items()))


def _set(headers: Sequence[FileHeader]) -> FileSet:
    first = headers[0]
    who = identify(first)
    experiment, forecast = _stated(first, _EXPERIMENT), _forecast(first)
    parts = (who.model, who.driver, experiment or who.experiment, forecast, who.member)
    label = "_".join(token(part) for part in parts if part) or token(first.path.parent.name)
    named = {**dict(who.facets), "experiment_id": experiment or who.experiment, "sub_experiment_id": forecast}
    return FileSet(label, [header.path for header in headers], {key: value for key, value in named.items() if value})


def _forecast(header: FileHeader) -> str:
    """Start of the forecast, as s1960; empty for a run that is none."""
    stated = _stated(header, _SUB_EXPERIMENT)
    found = _FORECAST.search(header.path.name)
    return stated if stated.lower() not in ("", "none", "n/a") else found[1] if found else ""


def _stated(header: FileHeader, names: Sequence[str]) -> str:
    return next((text for name in names if (text := " ".join(str(header.attrs.get(name, "")).split()))), "")


def token(text: object) -> str:
    """Text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", str(text)).strip("-") or "unnamed"
