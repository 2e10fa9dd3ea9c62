"""Writes a manifest's photos as files, as the model would see them."""

import hashlib
import json
from pathlib import Path

from PIL import Image
from rich.console import Console

from training.data.contact import write_sheet
from training.data.decode import Geometry
from training.data.manifest import Manifest, target_name
from training.data.pixels import photo_pixels
from training.progress import task
from training.recipes.recipe import Recipe

_NAME_DIGITS = 12


def write_photos(recipe: Recipe, manifest: Manifest, folder: Path, console: Console) -> int:
    """Writes <split>/<label>/<hash>.png, data.json and sheet.html; returns the number of photos."""
    side = recipe.model.input_px
    with task(console, "photos written", len(manifest.photos)) as done:
        for photo in manifest.photos:
            place = folder / (photo.split or "") / target_name(photo)
            place.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(photo.id.encode()).hexdigest()[:_NAME_DIGITS]
            Image.fromarray(photo_pixels(photo, Geometry(side, side))).save(place / f"{name}.png")
            done(1)
    (folder / "data.json").write_text(json.dumps(manifest.as_json(), indent=1) + "\n")
    write_sheet(manifest, folder / "sheet.html", folder.name)
    return len(manifest.photos)
