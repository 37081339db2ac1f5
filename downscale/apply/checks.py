"""Whether a run and the pairs it is applied to are of one kind: channels, levels, units, grid, numbers, and the way of upscaling."""

from __future__ import annotations

from downscale.errors import InputDataError
from downscale.pairs.store import PairStore
from downscale.training.run import Run
from downscale.variables import Channel, lookup

_UPSCALING = ("smooth", "min_valid_fraction", "edges")


def check_pairs(run: Run, store: PairStore) -> None:
    """Nothing when the pairs are such as the run was trained on.

    Raises:
        InputDataError: with a line for each difference.
    """
    units = {name: lookup(Channel.parse(name).variable).units for name in store.channels}
    run.check_inputs(store.channels, store.coarse, store.scalars, units=units)
    said = store.recipe.get("upscale", {})
    findings = [
        f"upscale.{name}: run {run.card[name]}, pairs {said[name]}"
        for name in _UPSCALING
        if name in said and name in run.card and run.card[name] != said[name]
    ]
    if findings:
        raise InputDataError(
            "the run was trained on pairs that were upscaled otherwise than these",
            where=str(run.path),
            hint="prepare pairs as those of the run, or use a run trained on yours",
            findings=findings,
        )


def calendar_notes(run: Run, source: str, calendar: str) -> list[str]:
    """A note where an input has another calendar than the run's training days; none for runs that do not say."""
    known = run.card.get("calendars", [])
    if not known or calendar in known:
        return []
    return [
        f"{source}: calendar {calendar}, and the run was trained on {', '.join(known)}: the season is the place of a day in its own year"
    ]
