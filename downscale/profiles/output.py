"""What a prediction is written to: files of one of the layouts, behind one interface."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import numpy as np

from downscale.cf.write import FieldWriter
from downscale.errors import ConfigError
from downscale.grid.grid import Grid
from downscale.profiles.cordex import CordexOutput
from downscale.profiles.cordex_grid import require_mapping
from downscale.profiles.facets import check_facets, check_names, experiments, with_facets
from downscale.profiles.rules import CORDEX_CMIP6
from downscale.profiles.spec import OutputSpec
from downscale.profiles.stretches import Named, check_apart, stretches
from downscale.profiles.zarr_store import ZarrOutput

__all__ = ["CfOutput", "Named", "Output", "OutputSpec", "Profile", "check_output", "check_outputs_apart", "open_output"]
Profile = Literal["cf", "cordex", "zarr"]


class Output(Protocol):
    """An open output; a context manager.

    A normal exit closes, verifies and renames every file; an exception leaves none that is not finished.
    """

    files: list[Path]
    """Final names."""

    def append(self, days: np.ndarray, fields: np.ndarray, series: Mapping[str, np.ndarray] | None = None) -> None:
        """Write further days, yyyymmdd (n,): fields (n, V, Y, X), or (n, M, V, Y, X) with members, float32, working units; series (n,)."""

    def __enter__(self) -> Output: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class CfOutput:
    """A CF file per variable: ``tas.nc``, or ``tas_19900101-19941231.nc`` for a part; series stand in each of them."""

    def __init__(self, spec: OutputSpec) -> None:
        """Create the unfinished files; errors as FieldWriter."""
        self.files = [spec.folder / f"{name}{spec.ending('.nc')}" for name in spec.variables]
        coordinates = spec.grid.to_coordinates()
        self._open = ExitStack()
        with ExitStack() as stack:
            self._writers = [
                stack.enter_context(
                    FieldWriter(
                        path,
                        spec.row(name),
                        coordinates,
                        spec.calendar,
                        attributes=with_facets(spec.attributes, spec.facets),
                        compression=spec.compression,
                        variable_attributes=spec.about_values if spec.row(name).file_units == "K" else {},
                        members=spec.members,
                        series=spec.series,
                        significant_bits=spec.significant_bits,
                        length=len(spec.days),
                    )
                )
                for path, name in zip(self.files, spec.variables, strict=True)
            ]
            self._open = stack.pop_all()

    def append(self, days: np.ndarray, fields: np.ndarray, series: Mapping[str, np.ndarray] | None = None) -> None:
        """See Output."""
        for position, writer in enumerate(self._writers):
            writer.append(days, fields[..., position, :, :], series)

    def __enter__(self) -> CfOutput:
        """The output itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close after success, abort after an exception."""
        self._open.__exit__(kind, error, trace)


def open_output(profile: Profile, spec: OutputSpec) -> Output:
    """Open an output in one of the layouts; errors as CfOutput, CordexOutput and ZarrOutput."""
    made: Output = {"cf": CfOutput, "cordex": CordexOutput, "zarr": ZarrOutput}[profile](spec)
    return made


def check_output(
    profile: Profile,
    facets: Mapping[str, str],
    variables: tuple[str, ...],
    *,
    statistics: bool = False,
    taken: Collection[str] = (),
    days: np.ndarray | None = None,
    grid: Grid | None = None,
) -> None:
    """Refuse, before anything is computed, what a layout cannot hold.

    Args:
        profile: the layout.
        facets: as merge_facets gives them.
        variables: names of what is to be written.
        statistics: over members, not members.
        taken: names of the models that the emulator has learned from.
        days: yyyymmdd of the prediction; None where they are not known yet.
        grid: of the fields; None where it is not known yet.

    Raises:
        ConfigError: facets that are missing or cannot be used, the name of a model, and for an archive a variable that it does not take,
            statistics over members, days outside the experiment, or a grid without grid mapping.
    """
    if profile != "cordex":
        check_names(CORDEX_CMIP6, facets, taken)
        return
    check_facets(CORDEX_CMIP6, facets, variables, taken)
    if statistics:
        raise ConfigError("the archive takes members, no statistics of them", where="apply.members.write", hint="write: members")
    if grid is not None:
        require_mapping(grid)
    if days is not None and len(days):
        stretches(days, experiments(facets), CORDEX_CMIP6)


def check_outputs_apart(profile: Profile, outputs: Iterable[Named]) -> None:
    """Refuse outputs of one command that an archive could not tell apart; ConfigError as check_apart."""
    if profile == "cordex":
        check_apart(CORDEX_CMIP6, outputs)
