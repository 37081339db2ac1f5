"""State of an unfinished training: safetensors and JSON, two kept, never half-written, never unpickled."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from downscale.errors import InputDataError
from downscale.hpc.paths import refuse_links

log = logging.getLogger(__name__)
_SLOTS = ("a", "b")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and everything else as JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class CheckpointFolder:
    """Two slots in a folder, written in turn; the newest whole one is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the older slot. The JSON is published last and holds the sha256 of the tensors' file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        newest = max(_SLOTS, key=self._order)
        slot = next(name for name in _SLOTS if name != newest) if self._order(newest) >= 0 else _SLOTS[0]
        digest = write_tensors(self.folder / f"{slot}.safetensors", checkpoint.tensors)
        write_json(self.folder / f"{slot}.json", {"order": self._order(newest) + 1, "sha256": digest, "facts": checkpoint.facts})

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None. A damaged one is logged and passed over."""
        for slot in sorted(_SLOTS, key=self._order, reverse=True):
            if self._order(slot) < 0:
                continue
            try:
                header = json.loads((self.folder / f"{slot}.json").read_text())
                if sha256(self.folder / f"{slot}.safetensors") != header["sha256"]:
                    raise InputDataError("the checksum does not fit")
                return Checkpoint(load_file(self.folder / f"{slot}.safetensors"), header["facts"])
            except (OSError, ValueError, KeyError, SafetensorError, InputDataError) as error:
                log.warning("checkpoint %s is damaged (%s); going back to the one before", self.folder / slot, error)
        return None

    def _order(self, slot: str) -> int:
        """Running number of a slot; -1 when it holds nothing that can be read."""
        try:
            return int(json.loads((self.folder / f"{slot}.json").read_text())["order"])
        except (OSError, ValueError, KeyError, TypeError):
            return -1


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a safetensors file under its final name only when it is whole on disk; its sha256."""
    temporary = _temporary(path)
    temporary.touch()
    mode = temporary.stat().st_mode  # what the umask gives; save_file lets nobody else read
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    temporary.chmod(mode)
    digest = sha256(temporary)
    _publish(temporary, path)
    return digest


def write_json(path: Path, value: Any) -> None:
    """Write JSON under its final name only when it is whole on disk."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text under its final name only when it is whole on disk."""
    temporary = _temporary(path)
    temporary.write_text(text)
    _publish(temporary, path)


def sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    temporary = path.with_name(f"{path.name}.partial")
    for one in (path.parent, path, temporary):
        refuse_links(one)
    return temporary


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)
