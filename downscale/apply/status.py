"""What is done in a workspace, what is in whose work, and what is left. Nothing is loaded that takes time, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from downscale.apply.marks import BLOCKS, MANIFEST, PARTS, read_json
from downscale.apply.records import all_there
from downscale.apply.wanted import unlike, wanted_predictions
from downscale.config.schema import ExperimentConfig
from downscale.errors import InputDataError
from downscale.hpc.locks import holder
from downscale.pairs.build import STORE_NAME
from downscale.pairs.parts import parts_at_work
from downscale.pairs.store import read_attributes
from downscale.pairs.tasks import WORK

_STATES = ("done", "in work", "begun", "not begun", "of another recipe")


def workspace_status(cfg: ExperimentConfig) -> dict[str, Any]:
    """The state of an experiment's workspace.

    Returns:
        ``pairs`` and ``scores`` in words; ``runs``, ``few-shot``, ``predictions``: a line for each; ``counts``: predictions by state.
    """
    root = cfg.workspace_path()
    groups, pairs = _pairs(root)
    runs = {path.name: _run(path) for path in sorted((root / "runs").glob("*")) if path.is_dir()}
    wanted = wanted_predictions(cfg.apply, [root / "runs" / run for run, state in runs.items() if state == "done"], groups)
    states = {name: _prediction(root / "predictions" / name) for name in sorted({*wanted, *_begun(root / "predictions")})}
    states |= {name: text for name, card in wanted.items() if (text := _unlike(cfg, root, name, card))}
    return {
        "artefact": None,
        "pairs": pairs,
        "runs": [f"{name}: {state}" for name, state in runs.items()],
        "few-shot": [f"{path.name}: {_grid(path)}" for path in sorted((root / "few_shot").glob("*")) if path.is_dir()],
        "predictions": [f"{name}: {state}" for name, state in states.items()],
        "scores": _scores(root, list(states)),
        "counts": _counted(states),
    }


def folder_status(root: Path) -> dict[str, Any]:
    """The state of the predictions in a folder of ``apply RUN -o``.

    Raises:
        InputDataError: there are none, not even begun.
    """
    places = [path for path in (root, *sorted(root.glob("*"))) if path.is_dir()]
    states = {path.relative_to(root.parent).as_posix(): _prediction(path) for path in places}
    found = {name: state for name, state in states.items() if state != "not begun"}
    if not found:
        raise InputDataError("no prediction is here, or begun", where=str(root), hint="give the folder of apply -o, or a config")
    return {"artefact": None, "predictions": [f"{name}: {state}" for name, state in found.items()], "counts": _counted(found)}


def _counted(states: Mapping[str, str]) -> str:
    counts = {state: sum(one.split(":")[0] == state for one in states.values()) for state in _STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no predictions"


def _pairs(root: Path) -> tuple[list[str], str]:
    """GROUP_KIND of the store, and its state."""
    parts = parts_at_work(root)
    busy = (holder(root / ".lock") if _preparing(root) else "") or "; ".join(f"part {name}, {who}" for name, who in parts.items())
    try:
        attributes = read_attributes(root / STORE_NAME)
    except InputDataError:
        partial = root / f"{STORE_NAME}.partial"
        done = f"{len(list(partial.glob(f'{WORK}/*/*.json')))} shards done"
        if not partial.exists():
            return [], f"in work: {busy}" if busy else "not begun: run downscale prepare"
        return [], f"in work: {busy}; {done}" if busy else f"begun: {done}, run downscale prepare again"
    kinds = {"rcmu": "perfect", "gcm": "imperfect"}
    arrays = [(name, key) for name in attributes["groups"] for key in kinds if (root / STORE_NAME / name / f"predictors_{key}").is_dir()]
    return [f"{name}_{kinds[key]}" for name, key in arrays], f"done: {', '.join(attributes['groups'])}" + (f"; {busy}" if busy else "")


def _preparing(root: Path) -> bool:
    """Whether the lock of the workspace, where it is held, is that of prepare: it is evaluate's once the store is whole."""
    return not (root / STORE_NAME).exists() or (root / f"{STORE_NAME}.partial").exists()


def _run(path: Path) -> str:
    if (path / "DONE").is_file():
        return "done"
    busy = holder(path / ".lock")
    return f"in work: {busy}" if busy else "begun: run the same train command again"


def _grid(path: Path) -> str:
    done = f"{len(list((path / 'cells').glob('*.json')))} cells done"
    busy = sorted({who for lock in path.glob(".*.lock") if (who := holder(lock))})
    return f"in work: {', '.join(busy)}; {done}" if busy else done if (path / "table.csv").is_file() else f"begun: {done}, no table yet"


def _begun(root: Path) -> Iterator[str]:
    for folder in root.glob("*/*"):
        if folder.is_dir():
            yield f"{folder.parent.name}/{folder.name}"


def _prediction(folder: Path) -> str:
    record = read_json(folder / MANIFEST)
    if record is not None:
        if not _whole(folder, record):
            return "begun: files are missing or cut short, run downscale apply again"
        far = record.get("ood", {}).get("flagged_share")
        return "done" + (f": {far:.1%} of the days far from training" if far else "")
    parts = len(list((folder / PARTS).glob("*.json")))
    busy = sorted({who for lock in folder.glob(".*lock") if (who := holder(lock))})
    told = [f"{parts} period{'s' * (parts != 1)} done"] if parts else []
    told += ["finished blocks of another are kept" if parts else "finished blocks are kept"] if any(folder.glob(f".*{BLOCKS[1:]}")) else []
    done = ", ".join(told)
    if busy:
        return f"in work: {'; '.join(part for part in (', '.join(busy), done) if part)}"
    return f"begun: {done}" if done else "not begun"


def _whole(folder: Path, record: Mapping[str, Any]) -> bool:
    try:
        return all_there(folder, record)
    except InputDataError:
        return False


def _unlike(cfg: ExperimentConfig, root: Path, name: str, card: Mapping[str, Any]) -> str:
    """What apply would refuse to leave as it is; "" where there is nothing, or no such thing."""
    record = read_json(root / "predictions" / name / MANIFEST)
    changed = unlike(cfg.apply, name.partition("/")[2], card, record.get("recipe", {})) if record else []
    return f"of another recipe: {'; '.join(changed)}" if changed else ""


def _scores(root: Path, predictions: list[str]) -> str:
    busy = "" if _preparing(root) else holder(root / ".lock")
    if not (root / "scores" / "scores.csv").is_file():
        return f"in work: {busy}" if busy else "not begun: run downscale evaluate"
    judged = (read_json(root / "scores" / "recipe.json") or {}).get("inputs", {}).get("predictions", {})
    records = {name: read_json(root / "predictions" / name / MANIFEST) for name in predictions}
    other = [name for name, record in records.items() if record and record.get("digest") != judged.get(name)]
    if busy:
        return f"done; in work again: {busy}"
    return "done" + (f": {len(other)} predictions are not those that were judged: run downscale evaluate again" if other else "")
