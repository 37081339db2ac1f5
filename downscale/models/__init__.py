"""Networks and baselines with one signature: ``Emulator(Inputs) -> fields``. Built from plain data by ``build``."""

from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.models.registry import BASELINES, build

__all__ = ["BASELINES", "Emulator", "Inputs", "build"]
