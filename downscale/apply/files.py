"""Which predictions a run folder makes of files that it has never seen: one, or one for each model run and member among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from downscale.apply.checks import calendar_notes
from downscale.apply.feed import FileFeed, Needs, Reading, open_feed
from downscale.apply.hints import options_told
from downscale.apply.input_files import InputFiles
from downscale.apply.jobs import Who, layout_of
from downscale.apply.lead import lead_time
from downscale.apply.members import plan_members
from downscale.apply.provenance import Predictors, attributes_of, check_jobs
from downscale.apply.sets import FileSet, file_sets, shared_facets, token
from downscale.apply.tasks import Job
from downscale.config.apply import ApplyConfig
from downscale.config.load import digest
from downscale.errors import InputDataError
from downscale.profiles.facets import is_regional
from downscale.training.run import load_run
from downscale.variables import Channel


@dataclass(frozen=True)
class FileOptions:
    """How given files are read and written.

    Attributes:
        forcings: CSV of the scenario, for runs trained with forcings.
        reading: units, fill values, aggregation.
        members: labels or positions of members on an ensemble dimension, each a prediction of its own; empty where there is none.
        per_run: the files are of several model runs, experiments or starts of a forecast, each a prediction of its own.
        config: how predictions are made and written.
    """

    forcings: Path | None = None
    reading: Reading = field(default_factory=Reading)
    members: Sequence[str] = ()
    per_run: bool = False
    config: ApplyConfig = field(default_factory=ApplyConfig)

    def plain(self) -> dict[str, Any]:
        """As JSON-like data, for ``of``."""
        return {
            "forcings": str(self.forcings) if self.forcings else None,
            "reading": asdict(self.reading),
            "members": list(self.members),
            "per_run": self.per_run,
            "config": self.config.model_dump(mode="json"),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> FileOptions:
        """From JSON-like data."""
        forcings = Path(plain["forcings"]) if plain["forcings"] else None
        config = ApplyConfig.model_validate(plain["config"])
        return cls(forcings, Reading(**plain["reading"]), tuple(plain["members"]), plain["per_run"], config)


def file_jobs(run_path: Path, inputs: Sequence[Path], output: Path, options: FileOptions, device: str) -> list[Job]:
    """The predictions of one run folder on files; model runs and several members go to folders of their own below ``output``.

    Raises:
        InputDataError: channels, levels, units or grid do not fit the run (a line per difference); of several model runs all that do not
            fit are told at once.
        ConfigError: the layout cannot hold what is asked for, or the run gives no members.
    """
    run = load_run(run_path, device=device)
    (ensemble,) = plan_members(options.config.members, [run]) if options.config.members else (None,)
    sets = file_sets(inputs) if options.per_run else [FileSet("", inputs, {})]
    jobs, faults = [], {}
    for one in sets:
        for member in options.members or (None,):
            parts = (one.label, f"member-{token(member)}" if member is not None and len(options.members) > 1 else "")
            label = "_".join(part for part in parts if part)
            try:
                jobs.append(_job((run, ensemble), one, member, options, output, label))
            except InputDataError as error:
                if not options.per_run:
                    raise
                faults[label] = error
    if faults:
        raise _together(faults, len(jobs))
    with options_told():
        check_jobs(jobs)
    return jobs


def _together(faults: Mapping[str, InputDataError], whole: int) -> InputDataError:
    """The errors of several model runs as one."""
    findings = [f"{label}: {line}" for label, error in faults.items() for line in (error.findings or [f"{error.message} ({error.where})"])]
    return InputDataError(
        f"{len(faults)} of {len(faults) + whole} model runs cannot be emulated",
        where=", ".join(faults),
        hint="mend their files, or leave them out",
        findings=findings,
    )


def _job(who: Who, one: FileSet, member: str | None, options: FileOptions, output: Path, label: str) -> Job:
    run, ensemble = who
    needs = Needs(
        run.channels,
        [Channel(name) for name in run.targets],
        run.forcing_columns,
        run.coarse,
        run.smooth,
        run.min_valid_fraction,
        run.edges,
    )
    feed = open_feed(one.paths, needs, forcings=options.forcings, reading=options.reading, member=member)
    one = one if options.per_run else replace(one, facets=shared_facets(one.paths))
    feed.source.notes += calendar_notes(run, feed.source.name, feed.calendar)
    facts = {
        "run": ensemble.name if ensemble else run.path.name,
        "group": label or "files",
        "kind": "files",
        "source": label or "files",
        "input_digest": _input_digest(feed, member, options),
        "input_files": feed.source.listed,
        **({"forcings": {"path": str(options.forcings), "sha256": feed.forcings.fingerprint}} if options.forcings else {}),
        "notes": feed.source.notes,
        **run.facts,
    }
    several = member if len(options.members) > 1 else None
    predictors = Predictors(label or _names(one), "files", one.facets, is_regional(one.facets), several)
    attributes = attributes_of(run, predictors, options.config.facets)
    return Job(
        run=run,
        feed=feed,
        folder=output / label if label else output,
        facts=facts,
        attributes=attributes | ({"downscale_members": ensemble.words} if ensemble else {}),
        facets=predictors.merged(options.config.facets),
        layout=layout_of(options.config),
        extra={"members": ensemble.facts} if ensemble else {},
        series=lead_time({**one.facets, **options.config.facets}, feed.days, feed.calendar),
        members=ensemble,
        inputs=InputFiles(feed.source.listed, options.config.hash_inputs),
    )


def _names(one: FileSet) -> str:
    """The first of its files."""
    return ", ".join(path.name for path in one.paths[:3]) + (" ..." if len(one.paths) > 3 else "")


def _input_digest(feed: FileFeed, member: str | None, options: FileOptions) -> str:
    """Of everything that decides what is read: files, member, forcings, and how files are read."""
    files = feed.source.files
    told = {key: value for key, value in asdict(options.reading).items() if value and value != "none"}
    if options.forcings:
        told["forcings"] = feed.forcings.fingerprint
    return digest([files, member, told]) if told else digest(files if member is None else [files, member])
