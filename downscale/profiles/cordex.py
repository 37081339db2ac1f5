"""The CORDEX-CMIP6 layout: its folders, file names, five-year files and attributes.

An emulator is not a regional climate model: ``activity_id`` is ESD, ``source_type`` says RCM-emulator, and ``source_id`` is a name of its
own, unless the facets say otherwise.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy as np

from downscale import __version__
from downscale.cf.timed import SeriesWriter
from downscale.cf.write import FieldWriter, rounding
from downscale.hpc.notes import read_note
from downscale.hpc.paths import refuse_links
from downscale.profiles.cordex_fixed import AREACELLA, has_areas, write_areas
from downscale.profiles.cordex_grid import describe_grid, tidy_coordinates
from downscale.profiles.cordex_version import listed, version_of
from downscale.profiles.facets import experiments, with_facets
from downscale.profiles.rules import CORDEX_CMIP6, Archive
from downscale.profiles.spec import OutputSpec
from downscale.profiles.stretches import Stretch, stretches

log = logging.getLogger(__name__)


class CordexOutput:
    """A file per variable, member and five years, in the archive's folders; series in files of their own below ``series``.

    The cell areas are written once for each experiment and member, by the output that has its first days.
    """

    def __init__(self, spec: OutputSpec, archive: Archive = CORDEX_CMIP6) -> None:
        """Lay out the files; none is created before its first day comes.

        Raises:
            ConfigError: days outside the experiment, or a grid without the mapping that the archive needs.
            OutputExistsError: a symbolic link stands in the way.
        """
        self._spec, self._archive = spec, archive
        self._coordinates, self._crs = tidy_coordinates(spec.grid, spec.facets)
        self._common = {**_common(spec, archive), "grid": describe_grid(spec.grid, self._crs, spec.facets["domain_id"])}
        self._stretches = stretches(spec.days, experiments(spec.facets), archive)
        self._version = version_of(spec, archive)
        self._names = [list(self._of_stretch(stretch)) for stretch in self._stretches]
        beside = [self._series_file(stretch) for stretch in self._stretches] if spec.series else []
        self.files = [path for names in self._names for path, _, _ in names] + beside
        self._areas = {self._area_file(stretch, member): (stretch, member) for stretch, member in self._begun()}
        for path in (*self.files, *self._areas):
            refuse_links(path, below=spec.folder)
        self._open: ExitStack | None = None
        self._writers: list[FieldWriter] = []
        self._series: SeriesWriter | None = None
        self._ids: dict[Path, str] = {}
        self._at, self._current = 0, 0

    def append(self, days: np.ndarray, fields: np.ndarray, series: Mapping[str, np.ndarray] | None = None) -> None:
        """See Output."""
        done = 0
        while done < len(days):
            stretch = self._stretches[self._current]
            if self._open is None:
                self._begin(stretch)
            take = slice(done, done + min(stretch.stop - self._at, len(days) - done))
            for writer, position in zip(self._writers, self._positions(), strict=True):
                place: Any = (take, *position)
                writer.append(days[take], fields[place])
            if self._series is not None:
                self._series.append(days[take], {name: values[take] for name, values in (series or {}).items()})
            self._at, done = self._at + take.stop - take.start, take.stop
            if self._at == stretch.stop:
                self._end()

    def __enter__(self) -> CordexOutput:
        """The output itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """After success everything is closed and listed with checksums; after an exception nothing unfinished is left."""
        if self._open is not None:
            self._open.__exit__(kind, error, trace)
        if kind is None:
            if self._current < len(self._stretches):
                raise ValueError(f"{self._at} of {len(self._spec.days)} days were written")
            for path, (stretch, member) in self._areas.items():
                about = self._attributes(stretch, AREACELLA.name, member)
                self._ids[path] = about["tracking_id"]
                write_areas(path, self._spec.grid, self._coordinates, self._crs, about)
            self._write_manifest()

    def _begin(self, stretch: Stretch) -> None:
        spec = self._spec
        with ExitStack() as stack:
            self._writers = []
            for path, variable, member in self._names[self._current]:
                attributes = self._attributes(stretch, variable, member)
                self._ids[path] = attributes["tracking_id"]
                writer = FieldWriter(
                    path,
                    spec.row(variable),
                    self._coordinates,
                    spec.calendar,
                    attributes=attributes,
                    compression=spec.compression,
                    variable_attributes={"cell_measures": "area: areacella"},
                    significant_bits=spec.significant_bits,
                    length=stretch.stop - stretch.start,
                )
                self._writers.append(stack.enter_context(writer))
            if spec.series:
                path = self._series_file(stretch)
                about = {**self._attributes(stretch, "series", None), "title": "Numbers a day beside emulated fields"}
                about.pop("external_variables")
                self._ids[path] = about["tracking_id"]
                self._series = stack.enter_context(
                    SeriesWriter(path, spec.calendar, about, spec.series, length=stretch.stop - stretch.start)
                )
            self._open = stack.pop_all()

    def _end(self) -> None:
        assert self._open is not None
        self._open.close()
        self._open, self._series, self._writers, self._current = None, None, [], self._current + 1

    def _positions(self) -> Iterator[tuple[int, ...]]:
        """Places of the files' fields in the arrays that come, in the order of the files."""
        for position in range(len(self._spec.variables)):
            yield from [(member, position) for member in range(len(self._spec.members))] if self._spec.members else [(position,)]

    def _begun(self) -> Iterator[tuple[Stretch, int | None]]:
        """The experiments whose first days are here, for each member, where the areas of cells are known."""
        spec = self._spec
        before = [] if spec.before is None else stretches(np.array([spec.before]), experiments(spec.facets), self._archive)
        begun = {stretch.experiment: stretch for stretch in reversed([*before, *self._stretches])}
        new = [stretch for stretch in begun.values() if stretch not in before]
        if new and has_areas(spec.grid):
            yield from ((stretch, member) for stretch in reversed(new) for member in (range(len(spec.members)) if spec.members else [None]))

    def _area_file(self, stretch: Stretch, member: int | None) -> Path:
        facets = self._facets(stretch, AREACELLA.name, member)
        folder = self._spec.folder.joinpath(*(facets[name] for name in self._archive.folders))
        return folder / ("_".join(facets[name] for name in self._archive.file_name) + ".nc")

    def _of_stretch(self, stretch: Stretch) -> Iterator[tuple[Path, str, int | None]]:
        for variable in self._spec.variables:
            for member in range(len(self._spec.members)) if self._spec.members else [None]:
                facets = self._facets(stretch, variable, member)
                folder = self._spec.folder.joinpath(*(facets[name] for name in self._archive.folders))
                yield folder / self._name(facets, stretch), variable, member

    def _name(self, facets: Mapping[str, str], stretch: Stretch) -> str:
        return "_".join([*(facets[name] for name in self._archive.file_name), f"{stretch.first:08d}-{stretch.last:08d}"]) + ".nc"

    def _series_file(self, stretch: Stretch) -> Path:
        return self._spec.folder / "series" / self._name(self._facets(stretch, "series", None), stretch)

    def _facets(self, stretch: Stretch, variable: str, member: int | None) -> dict[str, str]:
        facets = {**self._common, "driving_experiment_id": stretch.experiment, "variable_id": variable, "version": self._version}
        if variable == AREACELLA.name:
            facets["frequency"] = "fx"
        if member is not None:
            facets["version_realization"] = f"{facets['version_realization'].partition('-')[0]}-r{member + 1}"
        return facets

    def _attributes(self, stretch: Stretch, variable: str, member: int | None) -> dict[str, str]:
        """Global attributes of one file, in the archive's order, then provenance."""
        facets = self._facets(stretch, variable, member)
        facets |= {
            "driving_experiment": self._archive.experiments[stretch.experiment],
            "tracking_id": f"hdl:21.14103/{uuid4()}",
            **({} if variable == AREACELLA.name else {"external_variables": AREACELLA.name}),
        }
        if member is not None:
            facets["version_realization_info"] = f"member {self._spec.members[member]} of the emulator"
            facets["downscale_member"] = self._spec.members[member]
        ordered = {name: facets[name] for name in self._archive.required if name in facets}
        rest = {name: value for name, value in facets.items() if name not in ordered and name not in ("version", "earth_radius")}
        return {**ordered, **rest}

    def _write_manifest(self) -> None:
        """``manifest.json`` (with the period, where there are several): path, size, SHA-256 and tracking_id of every file.

        Files that an older list names and this one does not (another source_id) are removed: the list is what there is.
        """
        spec = self._spec
        entries = [
            {
                "path": str(path.relative_to(spec.folder)),
                "bytes": path.stat().st_size,
                "sha256": _sha256(path),
                "tracking_id": self._ids[path],
            }
            for path in (*self.files, *self._areas)
        ]
        target = spec.folder / f"manifest{spec.ending('.json')}"
        facts = {
            "files": entries,
            "inputs": list(spec.inputs),
            "provenance": dict(spec.attributes),
            "facets": dict(spec.facets),
            "downscale_version": __version__,
        }
        for old in listed(read_note(target), target) - {entry["path"] for entry in entries}:
            (spec.folder / old).unlink(missing_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_text(json.dumps(facts, indent=2, default=str) + "\n")
        partial.replace(target)


def _common(spec: OutputSpec, archive: Archive) -> dict[str, str]:
    """Global attributes that all files share: provenance, the archive's fixed ones, the facets."""
    facets = {**archive.assumed, **{name: value for name, value in spec.facets.items() if value}}
    own = {"references": "CORDEX-CMIP6 archiving specifications, doi:10.5281/zenodo.20274448", **spec.attributes}
    region = archive.regions[facets["domain_id"].partition("-")[0]]
    shared: dict[str, Any] = {**with_facets(own, facets), **archive.fixed, "domain": region}
    if spec.significant_bits is not None and rounding(spec.significant_bits):
        words = f"values rounded, largest relative error {rounding(spec.significant_bits)['quantization_maximum_relative_error']:.2g}"
        shared["comment"] = "; ".join(text for text in (shared.get("comment", ""), words) if text)
    return {name: str(value) for name, value in shared.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
