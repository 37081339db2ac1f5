"""The pieces of work of apply: one run on one source over one period, each known to be done by a record of its own.

A prediction is a folder; it is complete when its ``prediction.json`` stands. Where its years go to several files, each period is done by
itself: ``parts/PERIOD.json`` is written after its files, and whoever finds all periods recorded writes ``prediction.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from downscale import __version__
from downscale.apply.align_runs import Aligned
from downscale.apply.feed import Feed
from downscale.apply.input_files import InputFiles
from downscale.apply.lead import DayNumbers
from downscale.apply.marks import BLOCKS, BYTES, CLIMATE, FILES, MANIFEST, PARTS, read_json
from downscale.apply.members import Members
from downscale.apply.ownership import foreign_files
from downscale.apply.records import Layout, all_there, bytes_of, paths_of, remove, write_json
from downscale.apply.trust import summary, total
from downscale.config.load import differences, digest
from downscale.errors import OutputExistsError
from downscale.hpc.locks import clear_dead
from downscale.hpc.paths import refuse_links, refuse_links_inside
from downscale.profiles.output import OutputSpec
from downscale.training.run import Run

_REPLACED = ".replaced.json"


@dataclass(frozen=True)
class Job:
    """One prediction: a run and an input.

    Attributes:
        run: the emulator; with members the first of several.
        feed: the input days.
        folder: where the files go.
        facts: what prediction.json says about run and input (group, kind, trained_on ...).
        attributes: global attributes of the files.
        facets: what names the source, of the config.
        layout: of the files.
        extra: further things that decide the numbers, for the recipe (alignment, members).
        series: numbers of each day of the feed that are written beside the fields, by name.
        aligned: how the runs read the input, one for each run; empty for one that reads it as it is.
        members: several fields a day instead of one.
        root: folder of results below which no link may lead away; None where the user named ``folder`` itself.
        inputs: the files that were read.
    """

    run: Run
    feed: Feed
    folder: Path
    facts: Mapping[str, Any]
    attributes: Mapping[str, str]
    facets: Mapping[str, str] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    extra: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, DayNumbers] = field(default_factory=dict)
    aligned: Sequence[Aligned] = ()
    members: Members | None = None
    root: Path | None = None
    inputs: InputFiles = field(default_factory=InputFiles)

    def recipe(self, days: np.ndarray) -> dict[str, Any]:
        """What decides the numbers and the files of these days of the prediction."""
        return {
            "model_id": self.run.model_id,
            "input": self.facts["input_digest"],
            "days": digest(days.tolist()),
            "variables": list(self.run.targets),
            "calendar": self.feed.calendar,
            **self.layout.facts(),
            "facets": dict(self.facets),
            **self.extra,
        }

    @cached_property
    def parts(self) -> list[Part]:
        """Its pieces of work, in order."""
        days = self.feed.days
        if self.layout.years_per_file is None or not len(days):
            return [Part(self, 0, len(days), "")]
        number = (days // 10000 - 1) // self.layout.years_per_file  # five years: 1991 to 1995, as in CORDEX
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(days)]
        return [Part(self, first, last, f"{days[first]}-{days[last - 1]}") for first, last in pairwise(edges)]

    def recorded(self) -> dict[str, Any] | None:
        """prediction.json; None where there is none that can be read."""
        return read_json(self.folder / MANIFEST)

    def complete(self) -> bool:
        """Whether the prediction is there, whole, by this recipe."""
        found = self.recorded()
        return found is not None and self.same(found, self._plain_recipe) and all_there(self.folder, found)

    def same(self, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """Whether a record is of a recipe."""
        return not self._changes(record, wanted)

    def _changes(self, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
        """How the recipe of a record differs; older records state facets only where the layout is made of them."""
        recipe = record.get("recipe", {})
        return differences(recipe, {key: value for key, value in wanted.items() if key != "facets" or key in recipe})

    def refuse_links(self) -> None:
        """Refuse a folder that is or holds a symbolic link; OutputExistsError."""
        if self.root is not None:
            refuse_links(self.folder, below=self.root)
        refuse_links_inside(self.folder)

    def refuse_others(self, *, overwrite: bool) -> None:
        """Refuse a folder with a prediction of another recipe, or with files of somebody else.

        Raises:
            OutputExistsError: with the differences, unless ``overwrite``.
        """
        if overwrite:
            return
        found = self.recorded()
        if found is None:
            records = [read_json(path) for path in (self.folder / _REPLACED, *(part.record for part in self.parts if part.period))]
            known = {path for record in records if record for path in paths_of(record, self.folder)}
            foreign = foreign_files(self.folder, self.run.model_id, known)
            if foreign:
                raise OutputExistsError(
                    "the output folder holds files of another kind, or of another emulator",
                    where=f"{self.folder}: {', '.join(foreign[:5])}",
                    hint="choose an empty folder, or --overwrite",
                )
        recipes = [(found, self._plain_recipe)] if found else [(read_json(part.record), part.recipe) for part in self.parts if part.period]
        for record, wanted in recipes:
            changed = self._changes(record, wanted) if record else []
            if changed:
                raise OutputExistsError(
                    "a prediction of another recipe is here",
                    where=str(self.folder),
                    hint="choose another folder, or --overwrite; written -> wanted:",
                    findings=changed,
                )

    def retire(self) -> None:
        """Take the name from a prediction of another recipe before any of its files is replaced."""
        found = self.recorded()
        if found is not None and not self.complete():
            (self.folder / MANIFEST).replace(self.folder / _REPLACED)

    def tidy(self) -> None:
        """Remove what killed processes left: locks of finished periods, and blocks of those, or of periods that are none any more."""
        for part in self.parts:
            clear_dead(self.folder / part.lock)
        if self.complete():
            for left in self.folder.glob(f".*{BLOCKS[1:]}"):
                left.unlink(missing_ok=True)

    def finish(self) -> bool:
        """Write prediction.json where all periods are recorded; whether they are. Several processes may do so: they write the same."""
        records = [part.recorded() for part in self.parts] if self.layout.years_per_file else []
        if any(record is None for record in records):
            return False
        self.write_manifest([record for record in records if record is not None])
        return True

    def write_manifest(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write prediction.json from the records of its periods, and remove files of a replaced prediction that are none of its own."""
        files = {
            key: {name: list(dict.fromkeys(path for record in records for path in record[key][name])) for name in self.run.targets}
            for key in FILES
            if any(key in record for record in records)
        }
        recipe = self._plain_recipe
        manifest = {
            **self.facts,
            "variables": list(self.run.targets),
            **files,
            "missing_days": [day for record in records for day in record.get("missing_days", [])],
            **_apart([record.get("ood", {}) for record in records]),
            CLIMATE: [path for record in records for path in record.get(CLIMATE, [])],
            BYTES: {path: size for record in records for path, size in record.get(BYTES, {}).items()},
            "recipe": recipe,
            "digest": digest(recipe),
            "downscale_version": __version__,
        }
        write_json(self.folder / MANIFEST, manifest)
        old = read_json(self.folder / _REPLACED)
        for path in paths_of(old or {}, self.folder) - paths_of(manifest, self.folder):
            remove(self.folder / path)
        (self.folder / _REPLACED).unlink(missing_ok=True)

    @cached_property
    def _plain_recipe(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps(self.recipe(self.feed.days), default=str)))


@dataclass(frozen=True)
class Part:
    """One period of a prediction: positions ``start`` to ``stop`` of its days; "" for the only one."""

    job: Job
    start: int
    stop: int
    period: str

    @property
    def name(self) -> str:
        """For the screen."""
        return f"{self.job.folder.name} {self.period}".strip()

    @property
    def lock(self) -> str:
        """Name of its lock file in the folder of the prediction."""
        return f".{self.period}.lock" if self.period else ".lock"

    @property
    def blocks(self) -> Path:
        """Where its computed blocks are kept until it is done."""
        return self.job.folder / f".{self.period}{BLOCKS}" if self.period else self.job.folder / BLOCKS

    @property
    def days(self) -> np.ndarray:
        """yyyymmdd."""
        return self.job.feed.days[self.start : self.stop]

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What decides its numbers and files."""
        return dict(json.loads(json.dumps(self.job.recipe(self.days), default=str)))

    @property
    def record(self) -> Path:
        """Where it is recorded as done."""
        return self.job.folder / PARTS / f"{self.period}.json" if self.period else self.job.folder / MANIFEST

    def recorded(self) -> dict[str, Any] | None:
        """Its record, where it is done by this recipe and its files are there."""
        found = read_json(self.record)
        return found if found is not None and self.job.same(found, self.recipe) and all_there(self.job.folder, found) else None

    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.job.complete() or (bool(self.period) and self.recorded() is not None)

    def spec(self, **more: Any) -> OutputSpec:
        """What its files are to be."""
        job = self.job
        return OutputSpec(
            job.folder,
            tuple(job.run.targets),
            job.run.fine,
            job.feed.calendar,
            self.days,
            {**job.attributes, "downscale_input_manifest_sha256": job.inputs.digest},
            job.facets,
            period=self.period,
            compression=job.layout.compression,
            significant_bits=job.layout.significant_bits,
            before=int(job.feed.days[self.start - 1]) if self.start else None,
            inputs=job.inputs.listed,
            **more,
        )

    def done(
        self,
        files: Mapping[str, Mapping[str, Sequence[str]]],
        missing: Sequence[int],
        ood: Mapping[str, float],
        climate: Sequence[str] = (),
    ) -> None:
        """Record it; where it is the last one, the prediction is complete.

        Args:
            files: of the fields, and of the spread of members where there is one (see FILES), by variable.
            missing: days that could not be emulated.
            ood: what Novelty counted.
            climate: files of sums over the network's features.
        """
        record = {**files, "missing_days": list(missing), "ood": dict(ood), CLIMATE: list(climate), "recipe": self.recipe}
        folder = self.job.folder
        record[BYTES] = {path: bytes_of(folder / path) for path in sorted(paths_of(record, folder))}
        if not self.period:
            self.job.write_manifest([record])
            return
        write_json(self.record, record)
        self.job.finish()


def _apart(parts: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Days far from the training days, of all periods together; nothing for a run that does not know."""
    return {"ood": summary(total(parts))} if any(parts) else {}
