"""The text of a config from what was found in files: every choice commented, guesses marked CHECK."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from downscale.config.choices import Choices, choose
from downscale.config.found import FoundRun
from downscale.config.load import ENVIRONMENT_WHITELIST
from downscale.variables import TABLE, UPPER_AIR, Channel

CHECK = "# CHECK"
_MOST_UPS = 3
_FEW_DAYS = 1500


def draft(runs: Sequence[FoundRun], folder: Path, *, written_by: str, left_out: Sequence[str] = ()) -> str:
    """A config for the runs.

    Args:
        runs: what was found.
        folder: where the config will lie; paths are relative to it where that is short.
        written_by: the command, for the first line.
        left_out: files that take no part, a line each.

    Raises:
        InputDataError: nothing can be learned from these runs (config.choices).
    """
    choices = choose(runs)
    parts = [
        _head(written_by, [*choices.left_out, *left_out]),
        _workspace(choices),
        _sources(choices, folder),
        _variables(choices),
        _grids(choices),
        _missing(choices),
        _split(choices),
        _training(choices),
    ]
    return "\n\n".join(parts) + "\n"


def check_lines(text: str) -> list[str]:
    """The lines of a draft that a person has to look at."""
    return [line.strip() for line in text.splitlines() if CHECK in line]


def _head(written_by: str, left_out: Sequence[str]) -> str:
    lines = _comment(
        f"Written by `{written_by}` from the headers of the files. Every choice can be changed; lines marked CHECK are guesses: "
        "look at them first. Next: downscale check THIS FILE. All keys: docs/reference/config.md, or downscale config schema."
    )
    if left_out:
        lines += ["#", "# Left out:", *(f"#   {' '.join(line.split())}" for line in left_out[:20])]
        lines += [f"#   ... and {len(left_out) - 20} more"] if len(left_out) > 20 else []
    return "\n".join(lines)


def _workspace(choices: Choices) -> str:
    return f"workspace: results/{choices.truths[0].name}    # pairs, runs, predictions, scores and the report go here"


def _sources(choices: Choices, folder: Path) -> str:
    everyone = [*choices.truths, *choices.coarse]
    taken = {path for run in everyone for path in run.files}
    return "\n".join(["sources:", *(line for run in everyone for line in _source(run, choices, folder, taken))])


def _source(run: FoundRun, choices: Choices, folder: Path, taken: set[Path]) -> list[str]:
    drives = choices.drives.get(run.name)
    lines = [*_comment(run.words, indent=2), f"  {_quoted(run.name)}:"]
    lines.append(
        f"    role: {run.role}    # {run.why}"
        if run.sure
        else f"    role: {run.role}    {CHECK}: {run.why}; else one of rcm, gcm, reanalysis, observations"
    )
    if run.is_truth and not any(driven == run.name for driven, *_ in choices.drives.values()):
        named = (
            f"its files name {run.driver} as driver, which is not among these files (or has another calendar)"
            if run.driver
            else "no driver known"
        )
        lines += _comment(f"no imperfect pairs: {named}", indent=4)
    lines += ["    files:", *(f"      - {_text(pattern)}" for pattern in _patterns(run, folder, taken))]
    if drives:
        lines.append(
            f"    drives: {_quoted(drives[0])}    # {drives[1]}"
            if drives[2]
            else f"    drives: {_quoted(drives[0])}    {CHECK}: {drives[1]}"
        )
    elif not run.is_truth:
        lines += _comment("no 'drives': it drove none of the runs above; it is never paired, the emulator is applied to it", indent=4)
    lines += _units(run, [*choices.predictors, *choices.targets, *choices.static])
    if run.facets:
        lines += ["    facets:", *(f"      {key}: {_text(value)}" for key, value in run.facets.items())]
    return lines


def _units(run: FoundRun, channels: Sequence[str]) -> list[str]:
    """Active only where nothing else can be meant; else a line to be completed."""
    doubts = [doubt for doubt in run.doubts if any(Channel.parse(name).variable == doubt.variable for name in channels)]
    lines = []
    for doubt in doubts:
        lines += _comment(f"{doubt.variable}: the files say '{doubt.stated}' ({doubt.reason.rsplit(': ', 1)[-1]})", indent=4)
    known = [doubt for doubt in doubts if doubt.proposal]
    if known:
        named = ", ".join(f"{doubt.variable}: {_text(doubt.proposal)}" for doubt in known)
        lines.append(
            f"    assume_units: {{{named}}}    {CHECK}: the steps are days, so this is the likely meaning; recorded in every artefact"
        )
    for doubt in doubts:
        if not doubt.proposal:
            unit = TABLE[doubt.variable].units
            lines.append(
                f"    # assume_units: {{{doubt.variable}: {_text(unit)}}}    {CHECK}: say what the units are; refused until you do"
            )
    return lines


def _patterns(run: FoundRun, folder: Path, taken: set[Path]) -> list[str]:
    """Folders as globs where every netCDF file in them belongs to the run, else globs over dates, else names."""
    patterns: dict[str, None] = {}
    for parent in dict.fromkeys(path.parent for path in run.files):
        own = {path.name for path in run.files if path.parent == parent}
        there = {path.name for path in parent.glob("*.nc")} | own
        where = _place(parent, folder)
        if own == there and all(name.endswith(".nc") for name in own) and len(own) > 1:
            patterns[f"{where}/*.nc"] = None
            continue
        left = set(own)
        while left:
            glob = _glob(min(left), own, there)
            patterns[f"{where}/{glob}"] = None
            left -= {name for name in left if fnmatch.fnmatchcase(name, glob)} or {min(left)}
    return list(patterns)


def _glob(name: str, own: set[str], there: set[str]) -> str:
    """The widest of three patterns that names files of the run only: any variable and dates, any dates, this file."""
    plain = re.sub(r"([\[?*])", r"[\1]", name)
    dates = re.sub(r"_\d{4,12}-\d{4,12}(?=[._])", "_*", plain)
    for glob in (re.sub(r"^[A-Za-z0-9]+_", "*_", dates), dates):
        if {other for other in there if fnmatch.fnmatchcase(other, glob)} <= own:
            return glob
    return plain


def _place(parent: Path, folder: Path) -> str:
    """A folder as the config names it: by a whitelisted variable, relative to the config, or absolute."""
    absolute = Path(os.path.abspath(parent))  # noqa: PTH100 - symbolic links stay as the user gave them
    for name in ENVIRONMENT_WHITELIST[:2]:
        root = os.environ.get(name, "")
        if root and absolute.is_relative_to(root):
            return "/".join([f"${{{name}}}", *absolute.relative_to(root).parts])
    relative = os.path.relpath(absolute, os.path.abspath(folder))  # noqa: PTH100
    return relative if Path(relative).parts.count("..") <= _MOST_UPS else str(absolute)


def _variables(choices: Choices) -> str:
    levels: dict[str, list[str]] = {}
    for name in choices.predictors:
        channel = Channel.parse(name)
        levels.setdefault(channel.variable, []).extend([str(channel.level_hpa)] if channel.variable in UPPER_AIR else [])
    lines = ["predictors:    # input maps that all runs above have"]
    lines += [f"  - {{name: {name}, levels: [{', '.join(found)}]}}" if found else f"  - {{name: {name}}}" for name, found in levels.items()]
    if choices.grid_note:
        lines += _comment(choices.grid_note, indent=2)
    if choices.spare:
        lines += _comment(f"all runs also have: {', '.join(choices.spare)}", indent=2)
    if not any(stem in UPPER_AIR for stem in levels):
        lines += _comment(
            "no upper-air field is common to the runs: what happens aloft is not seen; zg, ta, hus, ua, va at 850, 700, 500 hPa are usual",
            indent=2,
        )
    lines += ["targets:    # fine fields to emulate", *(f"  - {{name: {name}}}" for name in choices.targets)]
    if choices.static:
        lines.append(f"static: [{', '.join(choices.static)}]    # fixed fields of the fine grid, for the decoder")
    else:
        lines.append("# static: [orog, sftlf]    # not among the files of the fine run; the decoder profits from them")
    return "\n".join(lines)


def _grids(choices: Choices) -> str:
    lines = _comment(
        "domain: {relaxation_cells: 8} drops cells at each side of the RCM, for files that still hold its relaxation zone; "
        "coarse_box: [W, E, S, N] in degrees; by default the largest rectangle of coarse cells that the fine run covers fully"
    )
    lines += _comment(
        "upscale.to: a coarse run (the grid of its first predictor), {coarsen: N}, {resolution: degrees}, {domain: EUR-44} or "
        "{grid_file: FILE}"
    )
    if isinstance(choices.upscale, str):
        return "\n".join([*lines, f"upscale: {{to: {_quoted(choices.upscale)}}}"])
    return "\n".join([*lines, f"upscale: {{to: {{coarsen: {choices.upscale['coarsen']}}}}}    # no coarse run here: blocks of fine cells"])


def _missing(choices: Choices) -> str:
    if not choices.gaps:
        return "# missing: {gaps: error}    # the series have no gaps; days that go missing later are refused"
    lines = _comment("skip: the series have missing days; if they should not, find the files and write error:")
    return "\n".join([*lines, *(line for gap in choices.gaps for line in _comment(gap, indent=0, hang=2)), "missing: {gaps: skip}"])


def _split(choices: Choices) -> str:
    years = choices.years
    lines = _comment("whole years, never random days (neighbouring days are alike): the middle chooses the best epoch, the last judge")
    lines += [
        "split:",
        *(f"  {name}: [{', '.join(_text(period) for period in getattr(years, name))}]" for name in ("train", "validation", "test")),
    ]
    if years.why:
        lines += _comment(years.why, indent=2)
    if years.year_starts == 12:
        lines.append("  year_starts: 12    # December belongs to the next year, so winters stay whole")
    lines.append(f"  gap_days: {years.gap_days}    # training days dropped beside validation and test")
    return "\n".join(lines)


def _training(choices: Choices) -> str:
    days = len({day for run in choices.truths for day in run.days})
    others = [f"{run.name}/perfect" for run in choices.truths[1:] if run.role == "rcm"]
    others += [f"{truth}/imperfect" for truth, *_ in choices.drives.values() if f"{truth}/imperfect" != choices.on]
    lines = _comment("resunet learns what ridge regression leaves; also there: backbone: none, unet_doury (Doury et al. 2022)")
    few = ", dropout: 0.1}    # few days: dropout against overfitting" if days < _FEW_DAYS else "}"
    lines.append(f"model: {{name: resunet, width: 32, backbone: ridge{few}")
    lines += ["train:", f"  on: [{_text(choices.on)}]    # NAME/perfect: RCMu -> RCM; NAME/imperfect: driving GCM -> RCM"]
    if others:
        lines += _comment(f"also there: {', '.join(others)}", indent=2)
    lines += ["  epochs: 60", f"  batch_size: {32 if days < 4 * _FEW_DAYS else 64}"]
    if others:
        adapt = next((pair for pair in others if pair.endswith("/imperfect")), others[0])
        lines.append(f"# finetune: {{on: [{_text(adapt)}]}}    # for: downscale train CONFIG --mode finetune --from RUN")
    return "\n".join(lines)


def _comment(text: str, *, indent: int = 0, hang: int = 0) -> list[str]:
    prefix = f"{' ' * indent}# {' ' * hang}"
    return textwrap.wrap(text, 120, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False, break_on_hyphens=False)


def _text(value: str) -> str:
    """A YAML text: plain where that reads back as the same text, else quoted."""
    return (
        value
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*", value) and value.lower() not in _WORDS
        else json.dumps(value, ensure_ascii=False)
    )


def _quoted(name: str) -> str:
    return name if re.match(r"[A-Za-z]", name) and name.lower() not in _WORDS else json.dumps(name)


_WORDS = ("null", "true", "false", "yes", "no", "on", "off")
