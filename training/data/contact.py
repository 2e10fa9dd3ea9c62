"""What `photo-trainer data` writes: a manifest's photos as files, and a contact sheet, one self-contained HTML page."""

import base64
import hashlib
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
from jinja2 import Environment
from PIL import Image
from rich.console import Console

from training.data.decode import Geometry
from training.data.manifest import Manifest, target_name
from training.data.photos import Photo
from training.data.pixels import photo_pixels
from training.errors import Unreadable
from training.progress import task

_THUMB_PX: Final = 96
_THUMBS: Final = 10
_NAME_DIGITS: Final = 12


def write_photos(manifest: Manifest, side: int, folder: Path, console: Console) -> None:
    """Writes <split>/<label>/<hash>.png, `side` px square as the model would see them, data.json and sheet.html."""
    with task(console, "photos written", len(manifest.photos)) as done:
        for photo in manifest.photos:
            place = folder / (photo.split or "") / target_name(photo)
            place.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(photo.id.encode()).hexdigest()[:_NAME_DIGITS]
            Image.fromarray(photo_pixels(photo, Geometry(side, side))).save(place / f"{name}.png")
            done(1)
    (folder / "data.json").write_text(json.dumps(manifest.as_json(), indent=1) + "\n")
    write_sheet(manifest, folder / "sheet.html", folder.name)


def write_sheet(manifest: Manifest, path: Path, title: str) -> None:
    """Writes counts, problems, and small pictures of every label; pictures that can no longer be read are left out."""
    counts = {split: by_label for split, by_label in manifest.counts().items() if by_label}
    labels = sorted({label for by_label in counts.values() for label in by_label})
    pictures = {split: [_row(label, manifest.of(split)) for label in by_label] for split, by_label in counts.items()}
    template = Environment(autoescape=True).from_string(files("training.data").joinpath("contact.html").read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(title=title, manifest=manifest, counts=counts, labels=labels, pictures=pictures))


def _row(label: str, photos: list[Photo]) -> tuple[str, int, str]:
    """A label, its number of photos, and a strip of a few of them as a JPEG in base64."""
    own = [photo for photo in photos if target_name(photo) == label]
    strip = np.full((_THUMB_PX, _THUMBS * _THUMB_PX, 3), 235, np.uint8)
    for column in range(min(_THUMBS, len(own))):
        try:
            pixels = photo_pixels(own[column * len(own) // _THUMBS], Geometry(_THUMB_PX, _THUMB_PX))
        except Unreadable:
            continue
        strip[:, column * _THUMB_PX : (column + 1) * _THUMB_PX] = pixels
    stream = io.BytesIO()
    Image.fromarray(strip).save(stream, "JPEG", quality=80)
    return label, len(own), base64.b64encode(stream.getvalue()).decode()
