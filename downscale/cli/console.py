"""What a user sees: log lines, a progress bar on a terminal and one line a minute elsewhere, errors in three lines."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from downscale.cli.tables import print_facts, printable
from downscale.errors import DownscaleError, Stopped

MAX_FINDINGS = 20
BATCH_SECONDS = 60.0
log = logging.getLogger("downscale")
_stderr = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Options:
    """How a command talks: shared by all stages."""

    verbose: bool = False
    quiet: bool = False
    log_format: Literal["text", "json"] = "text"
    json_output: bool = False


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        return json.dumps({"time": stamp, "level": record.levelname, "logger": record.name, "message": record.getMessage()})


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{stamp} {level}{record.getMessage()}"


def set_up_logging(options: Options) -> None:
    """Send the package's log to stderr at the level asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if options.log_format == "json" else _TextFormatter())
    level = logging.DEBUG if options.verbose else logging.WARNING if options.quiet else logging.INFO
    handler.setLevel(level)  # on the handler too: a run writes its own log.txt at another level
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


class ProgressLine:
    """Callable ``(done, total, note)``: a bar on a terminal, one log line a minute in a batch job, nothing when quiet."""

    def __init__(self, what: str, options: Options) -> None:
        self._what = what
        self._last = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._quiet = options.quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if sys.stderr.isatty() and not options.quiet and options.log_format == "text" and "SLURM_JOB_ID" not in os.environ:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=_stderr,
                transient=True,
            )

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show how far it is; what was done before the first call does not count for the time that is left."""
        started, before = self._first = self._first or (time.monotonic(), done)
        if self._bar is not None:
            if self._task is None:
                self._bar.start()
                self._task = self._bar.add_task(self._what, total=total, note=note)
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif not self._quiet and time.monotonic() - self._last >= BATCH_SECONDS:
            self._last = time.monotonic()
            left = (self._last - started) * (total - done) / max(done - before, 1)
            log.info("%s: %d of %d, about %.0f s left  %s", self._what, done, total, left, note)

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def guarded(options: Options) -> Iterator[None]:
    """Turn errors and signals into the documented exit codes and at most three lines, then one line per finding."""
    from downscale.hpc.signals import Interrupted, interruptible

    set_up_logging(options)
    try:
        with interruptible() as heard:
            yield
    except Interrupted as signal:
        show_error(signal.told(), options)
        raise typer.Exit(signal.told().code) from None
    except DownscaleError as failed:
        error = failed if heard.number is None or isinstance(failed, Stopped) else Interrupted(heard.number).told()
        show_error(error, options)
        raise typer.Exit(error.code) from None
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        _stderr.print("stopped")
        raise typer.Exit(130) from None
    except Exception as error:
        if options.verbose:
            traceback.print_exc()
        if heard.number is not None:  # what a library made of the signal
            show_error(Interrupted(heard.number).told(), options)
            raise typer.Exit(Stopped.code) from None
        text = str(error).splitlines()[0] if str(error) else ""
        show_error(
            DownscaleError(f"internal error: {type(error).__name__}: {text}", hint="run again with -v for the traceback, and report it"),
            options,
        )
        raise typer.Exit(1) from None


def show_error(error: DownscaleError, options: Options) -> None:
    """The error on stderr (findings beyond 20 only with -v), and as an object on stdout with --json."""
    first, *rest = error.lines()
    _stderr.print(f"[bold red]error:[/] {_plain(first)}")
    for line in rest:
        _stderr.print(f"  {_plain(line)}")
    shown = error.findings if options.verbose else error.findings[:MAX_FINDINGS]
    for finding in shown:
        _stderr.print(f"  - {_plain(finding)}")
    if len(shown) < len(error.findings):
        _stderr.print(f"  - ... {len(error.findings) - len(shown)} more (run with -v)")
    if options.json_output:
        print(
            json.dumps({"error": error.message, "where": error.where, "hint": error.hint, "findings": error.findings, "code": error.code})
        )


def _plain(text: str) -> str:
    """One line as rich prints it: brackets are no markup, and control characters, which files may hold anywhere, do nothing."""
    return escape(printable(text))


def run_stage(name: str, options: Options, work: Callable[[ProgressLine], dict[str, Any]]) -> None:
    """Run one stage and say what it made.

    ``work`` gets the progress callable and returns a summary with the key ``artefact`` (path) and any plain values.
    """
    with guarded(options):
        started = time.monotonic()
        with ProgressLine(name, options) as progress:
            summary = dict(work(progress))
        seconds = time.monotonic() - started
        artefact = summary.pop("artefact", None)
        if options.json_output:
            print(
                json.dumps(
                    {"stage": name, "artefact": str(artefact) if artefact else None, "seconds": round(seconds, 2), "summary": summary},
                    default=_jsonable,
                )
            )
        elif not options.quiet:
            _show_summary(name, artefact, seconds, summary)


def _jsonable(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.tolist() if hasattr(value, "tolist") else str(value)


def _show_summary(name: str, artefact: Any, seconds: float, summary: dict[str, Any]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    for key, value in summary.items():
        if value in (None, [], {}):
            continue
        if isinstance(value, dict):
            print_facts(key, [(name, str(words)) for name, words in value.items()], level=1)
        elif isinstance(value, list):
            out.print(f"  {key}:")
            for entry in value:
                out.print(f"    {_plain(str(entry))}")
        else:
            out.print(f"  {key}: {_plain(str(value))}")
    out.print(f"[bold green]{name}[/]: {_plain(str(artefact)) if artefact else 'done'} ({seconds:.1f} s)")
