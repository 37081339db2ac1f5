"""Which files there are, whether they are whole, and what they say about themselves.

All bad files are reported together, before any field is read. Headers are read once, in parallel processes where that pays, and kept on
disk for the next run (cf.cache).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from downscale.cf.cache import HeaderCache
from downscale.cf.header import FileHeader, Sharing
from downscale.cf.paths import Found, expand
from downscale.cf.soundness import header_or_problem
from downscale.cf.workers import read_in_processes
from downscale.errors import InputDataError

log = logging.getLogger(__name__)
_WORTH_A_PROCESS = 200
_BATCH = 50
_OF_THE_GRID = ("source_id", "model_id", "institution_id", "institute_id", "domain_id", "CORDEX_domain", "grid_label")
Progress = Callable[[int, int], None]
Selection = Mapping[str, str | Sequence[str]]


def scan(
    patterns: Sequence[str | Path],
    *,
    select: Selection | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[FileHeader]:
    """Headers of all files that paths, globs and folders name, sorted by path; the order of the patterns does not matter.

    Args:
        patterns: a folder stands for all ``*.nc`` below it.
        select: only files whose global attributes have these values (one of them, where a list is given).
        workers: processes that read headers; None: as many as there are usable cores, where there are files enough to pay for them.
        progress: called with (files done, files in all).

    Raises:
        InputDataError: with one finding for each pattern without a file and each file that is empty, truncated, not netCDF,
            unreadable, damaged or absurdly large (F01-F04, F08, X11); or nothing has the values that are selected.
    """
    files, absent = expand(patterns)
    bad: list[str] = []
    cache, sharing = HeaderCache(), Sharing()
    headers: dict[Path, FileHeader] = {}
    unread = []
    for one in files:
        known = _cached(cache, one)
        if known is None:
            unread.append(one)
        else:
            headers[one.path] = sharing(known)
    for one, answer in _read(unread, workers, progress):
        if isinstance(answer, str):
            bad.append(f"{one.path}: {answer}")
        else:
            headers[one.path] = sharing(answer)
            cache.put(answer)
    cache.save()
    if bad or absent:
        raise _refusal(bad, absent)
    many = "s" * (len(headers) != 1)
    log.info("%d file%s catalogued, %d of them by headers kept from an earlier run", len(headers), many, len(headers) - len(unread))
    noted = [replace(headers[one.path], notes=(one.note,)) if one.note else headers[one.path] for one in files]
    return _select(noted, select) if select else noted


def _cached(cache: HeaderCache, one: Found) -> FileHeader | None:
    if one.status is None or not os.access(one.resolved, os.R_OK):
        return None
    return cache.get(one.path, one.resolved, one.status)


def _refusal(bad: list[str], absent: list[str]) -> InputDataError:
    """The error for bad files and for patterns that name no file."""
    findings, many = sorted([*bad, *absent]), len(bad) + len(absent) > 1
    remedies = [f"fetch {'them' if len(bad) > 1 else 'it'} again or remove {'them' if len(bad) > 1 else 'it'} from the list"] * bool(bad)
    remedies += ["correct the path or pattern that names no file"] * bool(absent)
    return InputDataError(
        f"{len(findings)} of the input files cannot be used" if many else "an input file cannot be used",
        where="" if many else findings[0],
        hint=f"{'; '.join(remedies)}; nothing was written",
        findings=findings if many else (),
    )


def _select(headers: list[FileHeader], select: Selection) -> list[FileHeader]:
    """The files with the wanted global attributes; every value that is asked for must be there."""
    wanted = {name: {values} if isinstance(values, str) else set(values) for name, values in select.items()}
    asked_of = {False: wanted, True: {name: values for name, values in wanted.items() if name in _OF_THE_GRID}}
    kept = [h for h in headers if all(str(h.attrs.get(name, "")).strip() in values for name, values in asked_of[_is_fixed(h)].items())]
    absent = {name: values - {str(header.attrs.get(name, "")).strip() for header in kept} for name, values in wanted.items()}
    if not any(absent.values()):
        log.info("%d of %d files selected by their global attributes", len(kept), len(headers))
        return kept
    asked = "; ".join(f"{name}: {', '.join(sorted(values))}" for name, values in absent.items() if values)
    raise InputDataError(
        f"none of {len(headers)} files has the global attributes that are selected: {asked}",
        where=f"{headers[0].path}{' and others' * (len(headers) > 1)}" if headers else "",
        hint="correct sources.NAME.select; the files hold:",
        findings=[f"{name}: {_found(headers, name)}" for name in wanted],
    )


def _is_fixed(header: FileHeader) -> bool:
    """Whether a file has no times: its fixed fields serve all members and experiments of a model (CORDEX gives them r0i0p0)."""
    return not any(" since " in variable.text("units") for variable in header.variables.values())


def _found(headers: Sequence[FileHeader], name: str) -> str:
    counts: dict[str, int] = {}
    for header in headers:
        value = str(header.attrs[name]).strip() if name in header.attrs else "(no such attribute)"
        counts[value] = counts.get(value, 0) + 1
    shown = [f"{value} ({count} files)" for value, count in sorted(counts.items())]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")


def _read(files: Sequence[Found], workers: int | None, progress: Progress | None) -> Iterator[tuple[Found, FileHeader | str]]:
    """Each file with its header or with what is wrong with it."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(files) // _WORTH_A_PROCESS)
    batches = [files[begin : begin + _BATCH] for begin in range(0, len(files), _BATCH)]
    here = ((batch, [header_or_problem(one.path, one.resolved) for one in batch]) for batch in batches)
    answers = read_in_processes(batches, workers) if workers > 1 else here
    done = 0
    for batch, results in answers:
        yield from zip(batch, results, strict=True)
        done += len(batch)
        if progress:
            progress(done, len(files))
