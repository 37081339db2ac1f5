"""Which predictions a run folder makes of files that it has never seen: one, or one for each model run and member among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from downscale.apply.feed import Needs, Reading, open_feed
from downscale.apply.jobs import attributes_of
from downscale.apply.lead import lead_time
from downscale.apply.records import Layout
from downscale.apply.tasks import Job
from downscale.cf.catalogue import scan
from downscale.cf.header import FileHeader
from downscale.cf.identity import identify
from downscale.config.load import digest
from downscale.errors import InputDataError
from downscale.profiles.facets import merge_facets
from downscale.profiles.output import check_output
from downscale.training.run import Run, load_run
from downscale.variables import Channel

_FORECAST = re.compile(r"_(s\d{4,8})-r\d+i\d+p\d+")
_EXPERIMENT = ("experiment_id", "driving_experiment_id", "driving_experiment_name")
_SUB_EXPERIMENT = ("sub_experiment_id", "driving_sub_experiment_id")


@dataclass(frozen=True)
class FileOptions:
    """How given files are read and written.

    Attributes:
        forcings: CSV of the scenario, for runs trained with forcings.
        reading: units, fill values, aggregation.
        members: labels or positions of members on an ensemble dimension, each a prediction of its own; empty where there is none.
        per_run: the files are of several model runs, experiments or starts of a forecast, each a prediction of its own.
        layout: of the output.
        facets: what names the output, for the layout.
    """

    forcings: Path | None = None
    reading: Reading = field(default_factory=Reading)
    members: Sequence[str] = ()
    per_run: bool = False
    layout: Layout = field(default_factory=Layout)
    facets: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON-like data, for ``of``."""
        return {**asdict(self), "forcings": str(self.forcings) if self.forcings else None}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> FileOptions:
        """From JSON-like data."""
        forcings = Path(plain["forcings"]) if plain["forcings"] else None
        return cls(**{**plain, "forcings": forcings, "reading": Reading(**plain["reading"]), "layout": Layout(**plain["layout"])})


@dataclass(frozen=True)
class _Set:
    """Files of one model run."""

    label: str
    paths: Sequence[Path]
    facets: Mapping[str, str]


def file_jobs(run_path: Path, inputs: Sequence[Path], output: Path, options: FileOptions, device: str) -> list[Job]:
    """The predictions of one run folder on files; several go to folders of their own below ``output``.

    Raises:
        InputDataError: channels, levels, units or grid do not fit the run (a line per difference).
        ConfigError: facets of the layout are missing.
    """
    run = load_run(run_path, device=device)
    sets = _sets(inputs) if options.per_run else [_Set("", inputs, {})]
    wanted = [(one, member) for one in sets for member in (options.members or (None,))]
    jobs = []
    for one, member in wanted:
        label = "_".join(part for part in (one.label, f"member-{_token(member)}" if member is not None else "") if part)
        jobs.append(_job(run, one, member, options, output / label if len(wanted) > 1 else output, label))
    return jobs


def _job(run: Run, one: _Set, member: str | None, options: FileOptions, folder: Path, label: str) -> Job:
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
    source = label or ", ".join(path.name for path in one.paths[:3]) + (" ..." if len(one.paths) > 3 else "")
    facts = {
        "run": run.path.name,
        "group": label or "files",
        "kind": "files",
        "source": label or "files",
        "input_digest": digest(feed.source.files if member is None else [feed.source.files, member]),
        "input_files": feed.source.files,
        "notes": feed.source.notes,
        **run.facts,
    }
    stated = _shared_facets(one.paths) if options.layout.profile == "cordex" else one.facets
    facets = merge_facets(stated, options.facets)
    check_output(options.layout.profile, facets, tuple(run.targets))
    return Job(
        run,
        feed,
        folder,
        facts,
        attributes_of(run, source, "files", one.facets),
        facets,
        options.layout,
        series=lead_time(one.facets, feed.days, feed.calendar),
        inputs=feed.source.files,
    )


def _shared_facets(paths: Sequence[Path]) -> dict[str, str]:
    """What all files say of their run; of several experiments, joined by a comma, the historical one comes first."""
    sets = _sets(paths)
    shared = {key: value for key, value in sets[0].facets.items() if all(one.facets.get(key) == value for one in sets)}
    named = sorted({one.facets.get("experiment_id", "") for one in sets} - {""})
    return {**shared, "experiment_id": ",".join(named)} if named else shared


def _sets(inputs: Sequence[Path]) -> list[_Set]:
    """Files by model run, experiment and start of the forecast, in the order of their labels."""
    found: dict[tuple[str, ...], list[FileHeader]] = {}
    for header in scan(inputs):
        found.setdefault((*identify(header).run, _stated(header, _EXPERIMENT), _forecast(header)), []).append(header)
    sets: dict[str, _Set] = {}
    for key, headers in sorted(found.items()):
        one = _set(headers)
        if one.label in sets:
            raise InputDataError(
                f"two model runs among the files would both be called {one.label}",
                where=f"{sets[one.label].paths[0]}; {one.paths[0]}",
                hint="apply to them one after the other, each with its own -o",
                findings=[" ".join(part for part in key if part)],
            )
        sets[one.label] = one
    return list(sets.values())


def _set(headers: Sequence[FileHeader]) -> _Set:
    first = headers[0]
    who = identify(first)
    experiment, forecast = _stated(first, _EXPERIMENT), _forecast(first)
    parts = (who.model, who.driver, experiment or who.experiment, forecast, who.member)
    label = "_".join(_token(part) for part in parts if part) or _token(first.path.parent.name)
    named = {"experiment_id": experiment or who.experiment, "sub_experiment_id": forecast}
    return _Set(label, [header.path for header in headers], {**dict(who.facets), **{key: value for key, value in named.items() if value}})


def _forecast(header: FileHeader) -> str:
    """Start of the forecast, as s1960; empty for a run that is none."""
    stated = _stated(header, _SUB_EXPERIMENT)
    found = _FORECAST.search(header.path.name)
    return stated if stated.lower() not in ("", "none", "n/a") else found[1] if found else ""


def _stated(header: FileHeader, names: Sequence[str]) -> str:
    return next((text for name in names if (text := " ".join(str(header.attrs.get(name, "")).split()))), "")


def _token(text: object) -> str:
    """Text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", str(text)).strip("-") or "unnamed"
