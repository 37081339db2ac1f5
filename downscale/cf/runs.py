"""One source, one run: files of several models or members are refused, experiments that follow each other are noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.cf.calendar import iso
from downscale.cf.header import FileHeader
from downscale.cf.series import Series
from downscale.errors import InputDataError

_IDENTITY = (
    ("source_id", "model_id"),
    ("institution_id", "institute_id"),
    ("variant_label",),
    ("driving_source_id", "driving_model_id"),
    ("driving_variant_label", "driving_model_ensemble_member"),
)
"""What makes a run, under its names in CMIP6 and CMIP5. Not the experiment: a scenario continues the historical run."""
_RIP = ("realization", "initialization_method", "physics_version")
"""The member of CMIP5 files, which have no label for it."""
_EXPERIMENT = ("driving_experiment_id", "driving_experiment_name", "experiment_id")
_NOTHING = ("", "n/a", "na", "none", "unknown", "not applicable")
_SHOWN = 4


@dataclass(frozen=True)
class _Split:
    """An attribute that differs: the files of each of its values."""

    attribute: str
    files: Mapping[str, Sequence[str]]


def one_run(name: str, headers: Sequence[FileHeader], select: Mapping[str, str | Sequence[str]]) -> list[str]:
    """Refuse files of several runs; notes where the config accepts them by naming the values in ``select``.

    Args:
        name: of the source.
        headers: of its files that hold a channel (fixed fields are shared by runs and are not among them).
        select: of the config: an attribute with a list of values says that these belong together.
    """
    notes, wrong = [], []
    for names in _IDENTITY + tuple((one,) for one in _RIP):
        split = _split(headers, names)
        if len(split.files) < 2:
            continue
        asked = select.get(split.attribute, ())
        if not isinstance(asked, str) and set(split.files) <= set(asked):
            notes.append(f"{name}: files with {split.attribute} {', '.join(split.files)} are taken as one run, as select says")
        else:
            wrong.append(split)
    if wrong:
        raise _several_runs(name, wrong)
    return notes


def _split(headers: Sequence[FileHeader], names: Sequence[str]) -> _Split:
    files: dict[str, list[str]] = {}
    attribute = names[0]
    for header in headers:
        found = next((one for one in names if str(header.attrs.get(one, "")).strip().lower() not in _NOTHING), None)
        if found is None or (found in _RIP and any(header.attrs.get(one) for group in _IDENTITY[2:] for one in group)):
            continue
        attribute = found
        files.setdefault(str(header.attrs[found]).strip(), []).append(header.path.name)
    return _Split(attribute, files)


def _several_runs(name: str, wrong: Sequence[_Split]) -> InputDataError:
    listed = "; ".join(f"{one.attribute} {_some(list(one.files))}" for one in wrong)
    chosen = ", ".join(f"{one.attribute}: {max(one.files, key=lambda value: len(one.files[value]))}" for one in wrong)
    findings = [
        f"{one.attribute} {value}, {len(names)} file{'s' * (len(names) != 1)}: {_some(names)}"
        for one in wrong
        for value, names in sorted(one.files.items())
    ]
    return InputDataError(
        f"{name}: files of several runs in one source: {listed}",
        where=f"source {name}",
        hint=f"take one run with sources.NAME.select: {{{chosen}}}; a list of values there says that they belong together",
        findings=findings,
    )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(sorted(names)[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"


def experiment_seams(series: Series) -> list[str]:
    """A note on which experiment gives which days, where there are several."""
    experiments = [_experiment(piece.header) for piece in series.pieces]
    if len(set(experiments) - {""}) < 2:
        return []
    numbers = np.unique(experiments, return_inverse=True)[1]
    daily = numbers[series.table.file.reshape(len(series.days), -1)[:, 0]]
    begins = [0, *(np.flatnonzero(np.diff(daily)) + 1).tolist()]
    ends = [*(index - 1 for index in begins[1:]), len(daily) - 1]
    names = np.unique(experiments)
    spans = [f"{names[daily[a]] or 'unnamed'} {iso(series.days[a])} to {iso(series.days[b])}" for a, b in zip(begins, ends, strict=True)]
    shown = [*spans[:_SHOWN], f"{len(spans) - _SHOWN} more"] if len(spans) > _SHOWN else spans
    return [f"experiments follow each other: {', '.join(shown)}"]


def _experiment(header: FileHeader) -> str:
    return next((text for one in _EXPERIMENT if (text := str(header.attrs.get(one, "")).strip())), "")
