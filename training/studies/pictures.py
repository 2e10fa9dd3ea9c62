"""Plots and photos as small PNG files for a study's page; they read on light and on dark ground."""

import io
from collections.abc import Callable, Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure as Canvas
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.statistics import Ints

BLUE, ORANGE, GREEN, RED, GREY = "#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b93a1"
_STYLE: Final = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
_COLOURS: Final = 64
_MOST_LABELLED: Final = 20


def plot(paint: Callable[[Canvas], None], width: float = 6.0, height: float = 3.4) -> bytes:
    """A figure of some inches; equal for equal data."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # its keys' type is a list of every setting's name
        canvas = Canvas(figsize=(width, height), dpi=100)
        paint(canvas)
        stream = io.BytesIO()
        canvas.savefig(stream, format="png", facecolor="white", metadata={"Software": None})
    return reduced(Image.open(stream).convert("RGB"))


def reduced(image: Image.Image) -> bytes:
    """A drawing as PNG of few colours."""
    made = io.BytesIO()
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()


def confusion(counts: Ints, labels: Sequence[str]) -> bytes:
    """Shares of each true label, with counts where there is room."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(3.2, 0.36 * len(labels) + 1.6)

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("said")
        axes.set_ylabel("true")
        if len(labels) <= _MOST_LABELLED:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    ink = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=ink)

    return plot(paint, side, side)


def montage(images: Sequence[np.ndarray], columns: int = 8) -> bytes:
    """Photos uint8 [S, S, 3] of one size in a grid."""
    side = images[0].shape[0]
    sheet = np.full((-(-len(images) // columns) * side, columns * side, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * side, index % columns * side
        sheet[top : top + side, left : left + side] = image
    made = io.BytesIO()
    Image.fromarray(sheet).quantize(256).save(made, "PNG", optimize=True)
    return made.getvalue()


def views(photos: Tensor, px: int, columns: int = 8) -> bytes:
    """What a network sees, in a grid: float32 [N, 3, H, W] of any range, each channel stretched to all there is."""
    low, high = photos.amin((2, 3), keepdim=True), photos.amax((2, 3), keepdim=True)
    small = functional.interpolate((photos - low) / (high - low).clamp(min=1e-6), (px, px), mode="area")
    return montage(list((small * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()), columns)
