"""Entry point of explain: what a run makes its fields of, on every case of a workspace."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from downscale.apply.align_runs import READS_NO_MAPS
from downscale.apply.attribute import Contributions, Days, integrated_gradients
from downscale.apply.explained import Explanation, dataset_of, read_recipe, write_explanation
from downscale.apply.feed import GroupFeed
from downscale.apply.jobs import config_jobs
from downscale.apply.perturb import Perturbation, applicable
from downscale.apply.predict import emulate
from downscale.apply.tasks import Job
from downscale.cf.calendar import month
from downscale.config.load import differences
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, InputDataError, OutputExistsError, Stopped
from downscale.grid.grid import Grid
from downscale.hpc.locks import folder_lock
from downscale.hpc.paths import refuse_links, refuse_links_inside
from downscale.hpc.room import require_writable
from downscale.hpc.signals import StopFlag
from downscale.training.novelty import NoveltyModel
from downscale.training.reading import Holes
from downscale.training.run import Run
from downscale.variables import lookup

log = logging.getLogger(__name__)
FOLDER = "explain"
SCHEMA_VERSION = 1
SEASONS = ("DJF", "MAM", "JJA", "SON")
ALL_YEAR = "ANN"
ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Effort:
    """How much is looked at.

    Attributes:
        days: of each season, evenly chosen from the test days of a case, or from all days of a case without.
        steps: of the integral of the gradients.
    """

    days: int = 32
    steps: int = 16


def explain_run(
    cfg: ExperimentConfig, *, run: str, sources: Sequence[str] = (), effort: Effort | None = None, device: str = "auto",
    overwrite: bool = False, dry_run: bool = False, force_unlock: bool = False, progress: ProgressCallback | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Explain a run on the prepared sources of an experiment: a CF file for each in WORKSPACE/explain/RUN.

    Args:
        cfg: the experiment; its ``apply`` says how GCM fields are aligned.
        run: name in the workspace or path.
        sources: names; all when empty.
        effort: days and steps.
        device: "auto", "cpu" or "cuda".
        overwrite: replace files of another recipe.
        dry_run: say what would be done.
        force_unlock: take over the lock of a job that is gone.
        progress: called with cases done, all cases, and what is in work.

    Returns:
        ``artefact`` (the folder) and a line per case.

    Raises:
        InputDataError: the run does not fit the pairs, or reads no maps.
        OutputExistsError: a file of another recipe is there.
        Stopped: a signal came; finished files stay.
    """
    effort = effort or Effort()
    if effort.days < 1 or effort.steps < 1:
        raise ConfigError("--days and --steps are at least 1", hint="leave them out for 32 days a season and 16 steps")
    apply = cfg.apply.model_copy(update={"members": None, "days": "test", "profile": "cf"})
    jobs = config_jobs(cfg.model_copy(update={"apply": apply}), [run], sources, device)
    first = jobs[0].run
    if first.spec["model"]["name"] in READS_NO_MAPS:
        raise InputDataError(
            f"a run of the model '{first.spec['model']['name']}' reads no predictor maps: there is nothing to explain",
            where=str(first.path),
            hint="name a network, ridge or kernel_ridge with --run",
        )
    folder = cfg.workspace_path() / FOLDER / first.path.name
    require_writable(folder)
    paths = {job.folder.name: folder / f"{job.folder.name}.nc" for job in jobs}
    if dry_run:
        return {"artefact": None, "would write": [str(path) for path in paths.values()]}
    refuse_links(folder, below=cfg.workspace_path())
    refuse_links_inside(folder)
    lines = []
    with folder_lock(folder, force=force_unlock), StopFlag() as stop:
        for number, job in enumerate(jobs):
            if progress:
                progress(number, len(jobs), job.folder.name)
            lines.append(_explain(job, paths[job.folder.name], effort, stop, overwrite=overwrite))
    note = "downscale evaluate --overwrite puts it into the report"
    return {"artefact": folder, "cases": lines, "next": note}


def _explain(job: Job, path: Path, effort: Effort, stop: StopFlag, *, overwrite: bool) -> str:
    feed, chosen = job.feed, sample(job.feed.days, effort.days)
    assert isinstance(feed, GroupFeed)
    recipe = _recipe(job, effort, feed.days[chosen])
    written = read_recipe(path) if path.exists() else None
    if written == recipe:
        return f"{path.name}: complete already"
    if path.exists() and not overwrite:
        raise OutputExistsError(
            "an explanation of another recipe is here",
            where=str(path),
            hint="--overwrite, or another workspace; written -> wanted:",
            findings=differences(written or {}, recipe),
        )
    reading = job.aligned[0].run() if job.aligned else job.run
    found = explain(reading, GroupFeed(feed.group, feed.kind, feed.index[chosen]), effort.steps, stop)
    write_explanation(path, dataset_of(found, reading.coarse, reading.fine), _attributes(job), recipe)
    return f"{path.name}: {len(found.days)} days; " + "; ".join(_words(found, i) for i in range(len(found.targets)))


def _recipe(job: Job, effort: Effort, days: np.ndarray) -> dict[str, Any]:
    facts = {
        "schema_version": SCHEMA_VERSION,
        **job.recipe(days),
        "steps": effort.steps,
        "perturbations": [one.name for one in applicable(job.run.channels, job.run.spec.get("dropped", ()))],
    }
    return dict(json.loads(json.dumps(facts, default=str)))


def _attributes(job: Job) -> dict[str, str]:
    title = f"What {job.run.path.name} makes its fields of, on {job.folder.name}"
    found = {name: str(value) for name, value in job.attributes.items()}
    return {**found, "title": title, "history": f"{found.get('history', '').partition(' apply')[0]} {FOLDER}".strip()}


def _words(found: Explanation, target: int) -> str:
    """The three most important channels of a target."""
    shares = found.importance[target, -1]
    best = np.argsort(-np.nan_to_num(shares), kind="stable")[:3]
    return f"{found.targets[target]}: " + ", ".join(f"{found.channels[i]} {shares[i]:.0%}" for i in best)


def sample(days: np.ndarray, number: int) -> np.ndarray:
    """Sorted positions of at most ``number`` days of each season, evenly chosen."""
    season = _season(days)
    parts = [np.flatnonzero(season == one) for one in range(len(SEASONS))]
    return np.sort(np.concatenate([part[np.unique(np.linspace(0, len(part) - 1, min(number, len(part))).astype(int))] for part in parts]))


def _season(days: np.ndarray) -> np.ndarray:
    """0 to 3 for December to February ... September to November."""
    return np.asarray(month(days), dtype=np.int64) % 12 // 3


def explain(run: Run, feed: GroupFeed, steps: int, stop: StopFlag) -> Explanation:
    """Contributions of the predictors and responses to perturbed ones, of the whole days of a feed.

    Missing cells of masked channels stand at their training mean.

    Raises:
        InputDataError: no day is whole.
    """
    maps, scalars, surface, days = _read(run, feed)
    baseline, weights = baseline_of(run), area_weights(run)
    places = {name: np.flatnonzero(_season(days) == one) for one, name in enumerate(SEASONS)}
    seasons = {name: index for name, index in places.items() if len(index)}
    perturbations = applicable(run.channels, run.spec.get("dropped", ()))
    filled = np.where(np.isnan(maps), baseline, maps)
    gradients = integrated_gradients(run, (filled, scalars, surface, days), baseline, weights, steps=steps, look=_looking(stop))
    shape = len(run.targets), len(perturbations)
    responses, daily = np.zeros((*shape, len(seasons), *run.fine.shape)), np.zeros((*shape, len(days)))
    means = np.zeros((shape[0], len(days)))
    for number, index in enumerate(seasons.values()):
        _looking(stop)()
        some = maps[index], scalars[index], surface[index], days[index]
        responses[:, :, number], daily[..., index], means[:, index] = _respond(run, some, perturbations, weights)
    everything = np.average(responses, axis=2, weights=[len(index) for index in seasons.values()])[:, :, None]
    return Explanation(
        days,
        feed.calendar,
        [*seasons, ALL_YEAR],
        list(run.spec["channels"]),
        run.targets,
        [lookup(name).units for name in run.targets],
        {one.name: one.words for one in perturbations},
        _by_season(gradients, list(seasons.values())),
        gradients.error,
        np.concatenate([responses, everything], axis=2),
        daily,
        means,
    )


def _read(run: Run, feed: GroupFeed) -> Days:
    windows, scalars, surface = feed.block(0, len(feed.days), Holes.of(run.spec))
    whole = windows.whole & np.isfinite(scalars).all(axis=1)
    if not whole.any():
        raise InputDataError(
            "no day has all predictors", where=f"{feed.group.name}/{feed.kind}", hint="prepare with missing.nan_days: drop"
        )
    return windows.maps[whole], scalars[whole], surface[whole], feed.days[whole].astype(np.int64)


def _looking(stop: StopFlag) -> Callable[[], None]:
    def look() -> None:
        if stop.set:
            raise Stopped(f"stopped by {stop.name}; finished cases are kept", hint="run the same command again to go on")

    return look


def _respond(
    run: Run, days: Days, perturbations: dict[Perturbation, list[int]], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean change (T, P, Y, X), its area mean day by day (T, P, n), and the area mean of the fields (T, n)."""
    maps, *others = days
    base = emulate(run, maps, *others)
    shape = len(run.targets), len(perturbations)
    changes, daily = np.zeros((*shape, *run.fine.shape)), np.zeros((*shape, len(maps)))
    for position, (one, places) in enumerate(perturbations.items()):
        apart = emulate(run, one(maps, places, len(run.spec["channels"])), *others) - base
        changes[:, position] = apart.mean(axis=0, dtype=np.float64)
        daily[:, position] = _area_mean(apart, weights)
    return changes, daily, _area_mean(base, weights)


def _area_mean(fields: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(T, n) of fields (n, T, Y, X), over the cells that have a weight."""
    return np.asarray((np.where(weights > 0, fields, 0.0) * weights).sum(axis=(2, 3), dtype=np.float64).T)


def _by_season(found: Contributions, seasons: Sequence[np.ndarray]) -> np.ndarray:
    """(T, S, C, H, W) mean absolute contributions of each season and of all days."""
    absolute = np.abs(found.maps)
    return np.stack([*(absolute[index].mean(axis=0) for index in seasons), absolute.mean(axis=0)], axis=1)


def baseline_of(run: Run) -> np.ndarray:
    """(days * C, H, W) the mean of the run's training days, as its folder knows it; without it, of each channel over its box."""
    channels, shape = list(run.spec["channels"]), tuple(run.spec["coarse_shape"])
    means = np.array([run.normaliser["channels"].get(name, {}).get("mean", 0.0) for name in channels])
    maps = np.broadcast_to(means[:, None, None], (len(channels), *shape)).copy()
    facts = run.card.get("novelty")
    if facts:
        model = NoveltyModel.read(run.path, facts)
        known = np.isfinite(model.low)
        maps[known] = model.predictors.mean.reshape(maps.shape)[known]
    return np.tile(maps, (len(run.spec.get("days", (0,))), 1, 1)).astype(np.float32)


def area_weights(run: Run) -> np.ndarray:
    """(T, Y, X) shares of the cells with truth in the area mean of each target."""
    grid: Grid = run.fine
    area = grid.areas() if grid.lat_corners is not None else np.cos(np.deg2rad(grid.lat)) if grid.is_latlon else np.ones(grid.shape)
    weights = np.where(np.isnan(run.emulator.target.mean.cpu().numpy()), 0.0, area)
    return np.asarray(weights / weights.sum(axis=(1, 2), keepdims=True))
