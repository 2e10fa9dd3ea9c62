"""A contact sheet: one self-contained HTML page with a summary of a manifest and small pictures of every label."""

import base64
import io
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from training.data.decode import Geometry
from training.data.manifest import Manifest, target_name
from training.data.photos import FOREIGN, SPLITS, Photo
from training.data.pixels import photo_pixels
from training.errors import Unreadable

_THUMB_PX: Final = 96
_THUMBS: Final = 10
_STYLE: Final = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem .7rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{display:block;max-width:100%}figure{margin:.5rem 0 1rem}
figcaption{color:#666}.bad{color:#a00}code{font-size:12px}
"""


def write_sheet(manifest: Manifest, path: Path, title: str) -> None:
    """Writes the page; pictures that can no longer be read are left out."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>",
        f"<p>Task {manifest.task}; data manifest <code>{manifest.sha256}</code></p>",
        _counts_table(manifest),
        _problems(manifest),
    ]
    for split in (*SPLITS, FOREIGN):
        photos = manifest.of(split)
        if photos:
            parts.append(f"<h2>{split}</h2>")
            parts.extend(_row(label, photos) for label in sorted({target_name(photo) for photo in photos}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts) + "\n")


def _counts_table(manifest: Manifest) -> str:
    counts = {split: by_label for split, by_label in manifest.counts().items() if by_label}
    labels = sorted({label for by_label in counts.values() for label in by_label})
    head = "".join(f"<th>{split}" for split in counts)
    rows = "".join(
        f"<tr><td>{escape(label)}" + "".join(f"<td>{by_label.get(label, 0)}" for by_label in counts.values())
        for label in labels
    )
    total = "".join(f"<th>{sum(by_label.values())}" for by_label in counts.values())
    return f"<table><tr><th>label{head}{rows}<tr><th>all{total}</table>"


def _problems(manifest: Manifest) -> str:
    leaks = manifest.leaks
    compared = (
        f"{leaks.get('checked', 0)} photos compared; pairs alike: {escape(str(leaks.get('pairs', {})))}; "
        f"between splits before dropping: {escape(str(leaks.get('between_splits', {})))}; "
        f"dropped: {len(leaks.get('dropped', []))}; left: {leaks.get('left', 0)}"
    )
    lines = [
        compared,
        *(f"composed without end in training: {escape(str(dict(generator)))}" for generator in manifest.generators),
    ]
    bad = "".join(f"<li class=bad>{escape(b['id'])}: {escape(b['reason'])}" for b in manifest.unreadable)
    return "".join(f"<p>{line}</p>" for line in lines) + (f"<h2>Unreadable</h2><ul>{bad}</ul>" if bad else "")


def _row(label: str, photos: list[Photo]) -> str:
    own = [photo for photo in photos if target_name(photo) == label]
    picked = [own[index * len(own) // _THUMBS] for index in range(min(_THUMBS, len(own)))]
    strip = montage(picked, _THUMB_PX, _THUMBS)
    return (
        f'<figure><img alt="{escape(label)}" src="data:image/jpeg;base64,{_jpeg(strip)}">'
        f"<figcaption>{escape(label)}: {len(own)} photos</figcaption></figure>"
    )


def montage(photos: list[Photo], side: int, columns: int) -> np.ndarray:
    """Photos in rows of `columns`, as the model would see them at `side` px: uint8 [H, W, 3]; unreadable ones grey."""
    rows = max(1, -(-len(photos) // columns))
    sheet = np.full((rows * side, columns * side, 3), 235, np.uint8)
    for index, photo in enumerate(photos):
        try:
            pixels = photo_pixels(photo, Geometry(side, side))
        except Unreadable:
            continue
        row, column = divmod(index, columns)
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = pixels
    return sheet


def _jpeg(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode()
