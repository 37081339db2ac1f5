"""The prepare stage: sources in, one pair store out, a shard at a time."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from downscale import __version__
from downscale.config.load import differences
from downscale.config.schema import ExperimentConfig
from downscale.errors import InputDataError, OutputExistsError
from downscale.hpc.paths import refuse_links, refuse_links_inside
from downscale.hpc.room import make_folder, require_space, require_writable, telling_full_disk
from downscale.pairs import store as pair_store
from downscale.pairs.inputs import GroupInputs, Inputs, open_inputs
from downscale.pairs.parts import Part, building, parts_at_work, setting_up
from downscale.pairs.split import SPLITS, assign, check_not_empty
from downscale.pairs.tasks import WORK, remove_torn_files, tidy, unrecorded
from downscale.pairs.tasks_memory import day_bytes, shard_layout
from downscale.pairs.tasks_remote import KEPT
from downscale.pairs.write import Crew, early_hands, gather_crew, lay_out, shards_of, write_groups

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
STORE_NAME = "pairs.zarr"
_MERGE = "when all parts are done: downscale prepare CONFIG"


def build_pairs(
    cfg: ExperimentConfig,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    force_unlock: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    max_memory: int | None = None,
    part: Part | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Write ``WORKSPACE/pairs.zarr``, or the groups of it that are not there yet.

    Several parts may be built at the same time, on any number of nodes; then a call without ``part`` finds their shards done, does what
    is left, judges and publishes.

    Args:
        cfg: the experiment.
        overwrite: replace a store of another recipe.
        dry_run: open everything, report sizes, write nothing.
        force_unlock: take over a dead job's lock.
        workers: processes that read headers and build, 1: this one; with a scheduler: at most so many of its workers. None: as many as
            cores and memory allow where it pays, or all workers of the scheduler.
        scheduler: address (``tcp://HOST:PORT``) or scheduler file of a running Dask whose workers build.
        max_memory: bytes that each process may hold; None: any.
        part: do only the shards of this part, and leave the half-written store; None: everything.
        progress: called with (days done now, days to do now, group).

    Returns:
        ``artefact`` (path) and a summary of what the store holds.

    Raises:
        InputDataError, ConfigError: before anything is written; InputDataError also while fields are read.
        OutputExistsError: another recipe's store is there, or another process is writing.
        DownscaleError: the disk is full or would be, or a worker was killed; the finished shards stay.
        Stopped: a signal came; the finished shards stay and the same command goes on from them.
    """
    path = cfg.workspace_path() / STORE_NAME
    require_writable(path.parent)
    with ExitStack() as stack:
        hands = None if dry_run else early_hands(workers, scheduler)
        if hands is not None:
            stack.enter_context(hands)
        inputs = open_inputs(cfg, workers=workers)
        counts = _count_splits(cfg, inputs)
        plan = _Plan(cfg, inputs, path)
        crew = gather_crew(inputs, workers=workers, scheduler=scheduler, max_memory=max_memory, hands=hands)
        summary = {"artefact": path, **_describe(inputs, counts), "memory": crew.describe()}
        if dry_run:
            return {**summary, "artefact": None, "would write": f"{plan.total_bytes / 1e6:.0f} MB to {path}"}
        make_folder(path.parent)
        with building(path.parent, part, force=force_unlock), closing(inputs):
            missing, replace = plan.missing_groups(overwrite=overwrite)
            if missing and part is not None:
                summary |= {"artefact": None, "part": _write_part(plan, missing, crew, part, progress), "next": _MERGE}
            elif missing:
                _write(plan, missing, crew, progress, replace=replace)
            else:
                del summary["memory"]
                summary["unchanged"] = "the store is complete and has this recipe: nothing to do"
    return summary


@dataclass
class _Plan:
    """The store's recipe beside what is already on disk."""

    cfg: ExperimentConfig
    inputs: Inputs
    path: Path

    @property
    def partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")

    @property
    def total_bytes(self) -> int:
        return sum(day_bytes(self.inputs, group) * len(group.days) for group in self.inputs.groups)

    def root_attributes(self) -> dict[str, Any]:
        return {
            "recipe": self.inputs.recipe,
            "channels": [channel.name for channel in self.cfg.channels()],
            "targets": [target.name for target in self.cfg.targets],
            "scalars": self.inputs.forcings.names,
            "downscale_version": __version__,
            "config": json.loads(self.cfg.model_dump_json()),
            "notes": self.inputs.geometry.notes,
        }

    def missing_groups(self, *, overwrite: bool) -> tuple[list[GroupInputs], bool]:
        """Groups to build, and whether they replace a store of another recipe, which stays until they are whole."""
        if not self.path.exists():
            return self.inputs.groups, False
        try:
            attributes = pair_store.read_attributes(self.path)
            existing = {name: dict(zarr.open_group(self.path / name, mode="r").attrs) for name in attributes["groups"]}
        except InputDataError:
            raise OutputExistsError(
                "something that is not a pair store stands where it would go", where=str(self.path), hint="move it away"
            ) from None
        changed = differences(attributes["recipe"], self.inputs.recipe)
        for group in self.inputs.groups:
            if group.name in existing:
                changed += differences(existing[group.name]["recipe"], group.recipe, group.name)
        if changed and not overwrite:
            raise OutputExistsError(
                "the pair store was made by another recipe",
                where=str(self.path),
                hint="use another workspace, or --overwrite to replace it; written -> wanted:",
                findings=changed,
            )
        if changed:
            return self.inputs.groups, True
        return [group for group in self.inputs.groups if group.name not in existing], False


def _count_splits(cfg: ExperimentConfig, inputs: Inputs) -> dict[str, dict[str, int]]:
    counts = {
        group.name: {name: len(index) for name, index in assign(group.days, group.calendar, cfg.split).items()}
        for group in inputs.groups
        if group.truth
    }
    check_not_empty({name: sum(count[name] for count in counts.values()) for name in SPLITS}, cfg.split)
    return counts


def _describe(inputs: Inputs, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    lines = []
    for group in inputs.groups:
        coarse = "imperfect" if group.truth else "to apply to, no truth"
        kinds = " + ".join(filter(None, ["perfect" if group.rcm else "", coarse if group.gcm else ""]))
        split = ", ".join(f"{name} {count}" for name, count in counts.get(group.name, {}).items())
        span = f"{len(group.days)} days {group.days[0]}..{group.days[-1]} ({group.calendar})"
        lines.append(f"{group.name}: {span}, {kinds}{'; ' + split if split else ''}")
    box, fine = inputs.geometry.coarse.shape, inputs.geometry.fine.shape
    return {"grids": f"coarse {box[0]} x {box[1]}, fine {fine[0]} x {fine[1]}", "groups": lines}


def _write(plan: _Plan, missing: list[GroupInputs], crew: Crew, progress: ProgressCallback | None, *, replace: bool) -> None:
    _refuse_links(plan)
    log.info("%s", crew.describe())
    try:
        with telling_full_disk(plan.partial, kept=KEPT):
            root = _open_partial(plan)
            _require_space(plan, missing)
            remove_torn_files(plan.partial)
            shelves = lay_out(root, plan.partial, plan.inputs, missing)
            write_groups(shelves, plan.partial, plan.cfg, plan.inputs, missing, crew, progress)
            plan.inputs.close()
            _publish(plan, root, missing, replace=replace)
    finally:
        tidy(plan.partial)


def _write_part(plan: _Plan, missing: list[GroupInputs], crew: Crew, part: Part, progress: ProgressCallback | None) -> str:
    """The shards of one part; the last one to leave clears up what killed ones left. What was done, in words."""
    _refuse_links(plan)
    log.info("part %d of %d; %s", part.number, part.of, crew.describe())
    workspace = plan.path.parent
    try:
        with telling_full_disk(plan.partial, kept=KEPT):
            with setting_up(workspace):
                if parts_at_work(workspace, but=part):
                    _refuse_another_recipe(plan, missing)
                root = _open_partial(plan)
                _require_space(plan, missing)
                shelves = lay_out(root, plan.partial, plan.inputs, missing)
            own = shards_of(part, shelves, missing)
            done = write_groups(shelves, plan.partial, plan.cfg, plan.inputs, missing, crew, progress, own=set(own), who=part.key)
    finally:
        with setting_up(workspace):
            if not parts_at_work(workspace, but=part):
                tidy(plan.partial)
    return f"{part.number} of {part.of}: {len(own)} shards, {done} of them done now"


def _refuse_another_recipe(plan: _Plan, groups: Sequence[GroupInputs]) -> None:
    """OutputExistsError where the half-written store, on which others work, is of another recipe."""
    try:
        root: Any = zarr.open_group(plan.partial, mode="r")
    except (FileNotFoundError, KeyError, ValueError):
        return
    nodes = [(root, plan.inputs.recipe), *((root[group.name], group.recipe) for group in groups if group.name in root)]
    if any(node.attrs.get("recipe") not in (None, recipe) for node, recipe in nodes):
        raise OutputExistsError(
            "parts of another recipe are being built here",
            where=str(plan.partial),
            hint="wait until they have ended, or use another workspace",
        )


def _refuse_links(plan: _Plan) -> None:
    for path in (plan.path, plan.partial, plan.path.with_name(plan.path.name + ".old")):
        refuse_links(path)
        refuse_links_inside(path)


def _require_space(plan: _Plan, missing: Sequence[GroupInputs]) -> None:
    """Room for what is still to be written (S08)."""
    shards = [(group, shard_layout(plan.inputs, group)[1], unrecorded(plan.partial, plan.inputs, group)) for group in missing]
    need = sum(day_bytes(plan.inputs, group) * days * count for group, days, count in shards)
    require_space(plan.path.parent, need, sum(count for *_, count in shards) * (4 + len(plan.inputs.targets)))


def _open_partial(plan: _Plan) -> Any:
    """The half-written store of the same recipe, or a new one."""
    recipe = plan.inputs.recipe
    if plan.partial.exists():
        try:
            root: Any = zarr.open_group(plan.partial, mode="r+")
            if root.attrs.get("recipe") == recipe and root.attrs.get("schema_version") == pair_store.SCHEMA_VERSION:
                return root
        except (FileNotFoundError, KeyError, ValueError):
            pass
        log.info("removing %s: left by a run of another recipe", plan.partial)
        shutil.rmtree(plan.partial)
    geometry = plan.inputs.geometry
    return pair_store.create_root(plan.partial, plan.root_attributes(), geometry.coarse, geometry.fine, plan.inputs.static)


def _publish(plan: _Plan, root: Any, missing: list[GroupInputs], *, replace: bool) -> None:
    """Rename the finished store, or its new groups, into place."""
    names = [group.name for group in missing]
    shutil.rmtree(plan.partial / WORK)
    if replace or not plan.path.exists():
        root.attrs["groups"] = names
        old = plan.path.with_name(plan.path.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if replace:
            plan.path.rename(old)
        plan.partial.rename(plan.path)
        shutil.rmtree(old, ignore_errors=True)
        return
    for name in names:
        (plan.partial / name).rename(plan.path / name)
    published: Any = zarr.open_group(plan.path, mode="r+")
    published.attrs["groups"] = [*published.attrs["groups"], *names]
    shutil.rmtree(plan.partial)
