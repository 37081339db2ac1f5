"""What a figure of the page is, and how one is drawn: own Figure objects, no pyplot state."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from downscale.evaluate.scorecard import write_table

DPI = 110
INK, GREY, GRID = "#1d2733", "#5c6b7a", "#d9dfe5"
TRUTH_COLOUR = "#111111"
COLOURS = ("#0b6e99", "#d1495b", "#edae49", "#3c8d53", "#7b5ea7", "#8d6b4b", "#5c6b7a", "#c46a9e")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": DPI,
    "legend.frameon": False,
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Picture:
    """A figure as it stands on the page.

    Attributes:
        name: of the data file and the anchor.
        title, caption, alt: heading, what to see, and the same for those who cannot.
        png: the image.
        data: file name in report/data.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    data: str

    @property
    def source(self) -> str:
        """The image as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches with constrained layout and its own Agg canvas."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def styled() -> AbstractContextManager[None]:
    """A context in which figures are made in the page's style; settings outside it do not change."""
    return matplotlib.rc_context(STYLE)


def to_png(figure: Figure) -> bytes:
    """Draw it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def save_csv(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> str:
    """The numbers of a figure as CSV; returns the file name."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_table(folder / f"{name}.csv", [{column: row.get(column, "") for column in columns} for row in rows], columns)
    return f"{name}.csv"


def save_netcdf(folder: Path, name: str, dataset: xr.Dataset) -> str:
    """The fields of a figure as NetCDF; returns the file name."""
    dataset.to_netcdf(
        folder / f"{name}.nc", engine="netcdf4", encoding={key: {"zlib": True} for key in dataset.data_vars if dataset[key].ndim >= 2}
    )
    return f"{name}.nc"
