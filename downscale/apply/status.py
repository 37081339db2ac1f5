"""What is done in a workspace, what is in whose work, and what is left. Nothing is loaded that takes time, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from downscale.apply.marks import BLOCKS, MANIFEST, PARTS, read_json
from downscale.config.schema import ExperimentConfig
from downscale.errors import InputDataError
from downscale.hpc.locks import holder
from downscale.pairs.build import STORE_NAME
from downscale.pairs.parts import parts_at_work
from downscale.pairs.store import read_attributes
from downscale.pairs.tasks import WORK


def workspace_status(cfg: ExperimentConfig) -> dict[str, Any]:
    """The state of an experiment's workspace.

    Returns:
        ``pairs`` and ``scores`` in words; ``runs``, ``few-shot``, ``predictions``: a line for each; ``counts``: predictions by state.
    """
    root = cfg.workspace_path()
    groups, pairs = _pairs(root)
    runs = {path.name: _run(path) for path in sorted((root / "runs").glob("*")) if path.is_dir()}
    wanted = [] if cfg.apply.members else [f"{run}/{group}" for run, state in runs.items() if state == "done" for group in groups]
    known = sorted({*wanted, *_begun(root / "predictions")})
    states = {name: _prediction(root / "predictions" / name) for name in known}
    counts = {state: sum(one.split(":")[0] == state for one in states.values()) for state in ("done", "in work", "begun", "not begun")}
    return {
        "artefact": None,
        "pairs": pairs,
        "runs": [f"{name}: {state}" for name, state in runs.items()],
        "few-shot": [f"{path.name}: {_grid(path)}" for path in sorted((root / "few_shot").glob("*")) if path.is_dir()],
        "predictions": [f"{name}: {state}" for name, state in states.items()],
        "scores": _scores(root, list(states)),
        "counts": ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no predictions",
    }


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


def _scores(root: Path, predictions: list[str]) -> str:
    busy = "" if _preparing(root) else holder(root / ".lock")
    if not (root / "scores" / "scores.csv").is_file():
        return f"in work: {busy}" if busy else "not begun: run downscale evaluate"
    written = (root / "scores" / "scores.csv").stat().st_mtime_ns
    newer = [
        name for name in predictions if (path := root / "predictions" / name / MANIFEST).is_file() and path.stat().st_mtime_ns > written
    ]
    if busy:
        return f"done; in work again: {busy}"
    return "done" + (f": {len(newer)} predictions are newer: run downscale evaluate again" if newer else "")
