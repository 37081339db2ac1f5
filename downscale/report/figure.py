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
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from downscale.evaluate.scorecard import write_table

DPI = 110
FIGURES = "figures"
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
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Picture:
    """A figure as it stands on the page.

    Attributes:
        name: of the data file and the anchor.
        title, caption, alt: heading, what to see, and the same for those who cannot.
        png: the image.
        data: file name in report/data.
        origin: what was read for it, in the scores folder.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    data: str
    origin: str = "scores.csv"

    @property
    def source(self) -> str:
        """The image as a data URL; empty when it was left out."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii") if self.png else ""

    @property
    def width(self) -> int:
        """Pixels across (from the header of the PNG)."""
        return int.from_bytes(self.png[16:20], "big")

    @property
    def height(self) -> int:
        """Pixels down."""
        return int.from_bytes(self.png[20:24], "big")


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches with constrained layout and its own Agg canvas."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def legend_above(figure: Figure, axis: Axes) -> None:
    """The legend of an axis in lines above the whole figure, where it hides nothing; as many columns as its names leave room for."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        inches = 0.7 + 0.085 * max(len(label) for label in labels)
        columns = max(1, min(4, int(figure.get_figwidth() / inches)))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=8)


def styled() -> AbstractContextManager[None]:
    """A context in which figures are made in the page's style; settings outside it do not change."""
    return matplotlib.rc_context(STYLE)


def to_png(figure: Figure) -> bytes:
    """Draw it."""
    return _encode(_pixels(figure, DPI))


def save_figure(figure: Figure, data: Path, name: str) -> bytes:
    """Write figures/NAME.png and .pdf beside the data folder, for papers; returns the image of the page, half as fine."""
    folder = data.with_name(FIGURES)
    folder.mkdir(exist_ok=True)
    fine = _pixels(figure, 2 * DPI)
    (folder / f"{name}.png").write_bytes(_encode(fine, 2 * DPI))
    figure.set_layout_engine("none")
    figure.savefig(folder / f"{name}.pdf", metadata={"Creator": None, "Producer": None, "CreationDate": None})
    height, width = (size // 2 for size in fine.shape[:2])
    return _encode(fine[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8))


def _pixels(figure: Figure, dpi: int) -> np.ndarray:
    """The drawn figure as (y, x, 3) bytes on white."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _encode(pixels: np.ndarray, dpi: int = DPI) -> bytes:
    stream = io.BytesIO()
    imsave(stream, pixels, format="png", dpi=dpi)
    return stream.getvalue()


def save_csv(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> str:
    """The numbers of a figure as CSV; returns the file name."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_table(folder / f"{name}.csv", [{column: row.get(column, "") for column in columns} for row in rows], columns)
    return f"{name}.csv"


def finish(
    figure: Figure, data: Path, name: str, rows: Sequence[Mapping[str, object]], *, title: str, caption: str, alt: str, origin: str
) -> Picture:
    """Write a figure and its rows; what stands on the page (see Picture)."""
    return Picture(name, title, caption, alt, save_figure(figure, data, name), save_csv(data, name, rows), origin)


def save_netcdf(folder: Path, name: str, dataset: xr.Dataset) -> str:
    """The fields of a figure as NetCDF; returns the file name."""
    dataset.to_netcdf(
        folder / f"{name}.nc", engine="netcdf4", encoding={key: {"zlib": True} for key in dataset.data_vars if dataset[key].ndim >= 2}
    )
    return f"{name}.nc"
