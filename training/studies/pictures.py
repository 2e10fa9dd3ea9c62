"""Plots and photos as small PNG files for a study's page, readable on a light and on a dark background."""

import io
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from training.evaluation.figures import paint_confusion, subplots
from training.evaluation.robustness import encoded
from training.statistics import Ints

_STYLE: Final[Any] = {  # its keys' type is a list of every setting's name
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
#: Decorates every function that makes a plot: artists read the style when they are created.
styled: Final = mpl.rc_context(_STYLE)
_COLOURS: Final = 64
_CAPTION_PX: Final = 13


def png(axes: Axes, colours: int = _COLOURS) -> bytes:
    """The plot that the axes are in, as a small PNG of few colours; equal for equal data.

    One with a colour bar keeps all of its colours: few would break the bar into bands.
    """
    canvas, stream = axes.get_figure(root=True), io.BytesIO()
    assert canvas is not None  # noqa: S101 - `subplots` made it
    canvas.savefig(stream, format="png", facecolor="white", metadata={"Software": None})
    drawn = Image.open(stream, formats=("PNG",)).convert("RGB")
    barred = any(image.colorbar for plot in canvas.axes for image in plot.images)
    return encoded(drawn if barred else drawn.quantize(colours, dither=Image.Dither.NONE), "PNG", optimize=True)


def photo_png(image: Image.Image) -> bytes:
    """A photo as PNG of 256 colours, small enough for a page."""
    return encoded(image.quantize(256), "PNG", optimize=True)


@styled
def confusion(counts: Ints, labels: Sequence[str]) -> bytes:
    """Shares of each true label, with counts where there is room."""
    side = max(3.2, 0.36 * len(labels) + 1.6)
    axes = subplots(side, side)
    paint_confusion(axes, counts, labels, "Blues", "black")
    return png(axes)


def montage(images: Sequence[np.ndarray], columns: int = 8) -> bytes:
    """Photos uint8 [S, S, 3] of one size in a grid."""
    side = images[0].shape[0]
    sheet = np.full((-(-len(images) // columns) * side, columns * side, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * side, index % columns * side
        sheet[top : top + side, left : left + side] = image
    return photo_png(Image.fromarray(sheet))


def captioned(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8) -> bytes:
    """Photos uint8 [S, S, 3] of one size in a grid, each above its caption, cut to its width."""
    side, font = images[0].shape[0], ImageFont.load_default(_CAPTION_PX - 3)
    high = side + _CAPTION_PX
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * high), "white")
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = index % columns * side, index // columns * high
        sheet.paste(Image.fromarray(image), (left, top))
        text = caption
        while font.getlength(text) > side - 2:
            text = text[:-1]
        ImageDraw.Draw(sheet).text((left + 1, top + side), text, "black", font)
    return photo_png(sheet)


def views(photos: Tensor, px: int, columns: int = 8) -> bytes:
    """Inputs of a network in a grid: float32 [N, 3, H, W] of any range, each channel stretched to its full range."""
    low, high = photos.amin((2, 3), keepdim=True), photos.amax((2, 3), keepdim=True)
    small = functional.interpolate((photos - low) / (high - low).clamp(min=1e-6), (px, px), mode="area")
    return montage(list((small * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()), columns)
