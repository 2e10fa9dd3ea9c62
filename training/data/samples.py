"""The demo's sample photos, composed from held-out backgrounds and look-alikes.

Every photo is one row of a table and depends only on that row.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from simpleicons.all import icons

from training.data.backgrounds import PROCEDURAL, add_leaves, add_text, sample_photo
from training.data.compose import Look, paste
from training.data.degrade import Damage, degrade
from training.data.logos import BRANDS, render_mask

_MARK_PX = 512
_LARGEST_BYTES = 64_000
#: Logos stay within this share of the centre square, so that the centre crop does not cut their plates.
_REACH = 0.72
_EXIF_ORIENTATION, _TURN_RIGHT = 0x0112, 6
#: Severity from which a photo is expected to be poor.
_POOR = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: file, background, mark (a brand, another, or None), share of the short side, seed, damage, severity."""

    file: str
    background: str
    mark: str | None = None
    size: float = 0.6
    seed: int = 0
    damage: Damage | None = None
    severity: float = 0.0
    #: Part of a photo to show: left, top, right, bottom as shares of its sides.
    part: tuple[float, float, float, float] = (0, 0, 1, 1)
    plate: bool = False
    #: Stored rotated, with the EXIF orientation that corrects it.
    turned: bool = False
    width: int = 900
    height: int = 675


#: Held-out sample photos: package, file, author and licence.
_SOURCES = {
    "coffee": ("skimage", "coffee.png", "Rachel Michetti, courtesy of Pikolo Espresso Bar; CC0"),
    "chelsea": ("skimage", "chelsea.png", "Stefan van der Walt; CC0"),
    "rocket": ("skimage", "rocket.jpg", "SpaceX; released to the public domain"),
    "brick": ("skimage", "brick.png", "CC0Textures, Bricks25; CC0"),
    "flower": (
        "sklearn",
        "flower.jpg",
        "vultilion on Flickr, photo 6056698931, cropped and edited; CC BY 2.0 (creativecommons.org/licenses/by/2.0)",
    ),
}

SAMPLES = (
    Sample("cafe-starbucks.jpg", "coffee", "starbucks", 0.5, 3, plate=True),
    Sample("cafe-table-mcdonalds.jpg", "coffee", "mcdonalds", 0.6, 3, part=(0.35, 0.1, 1, 1), plate=True),
    Sample("cafe-dark-apple.jpg", "coffee", "apple", 0.65, 3, Damage.DARK, 3, plate=True),
    Sample("cat-puma.jpg", "chelsea", "puma", 0.55, 2, part=(0, 0, 0.9, 0.9), plate=True),
    Sample("cat-blurred-adidas.jpg", "chelsea", "adidas", 0.65, 1, Damage.BLUR, 3, plate=True),
    Sample("launch-shell.jpg", "rocket", "shell", 0.5, 1),
    Sample("launch-noisy-volkswagen.jpg", "rocket", "volkswagen", 0.6, 2, Damage.NOISE, 3.0),
    Sample("wall-burgerking.jpg", "brick", "burgerking", 0.65, 7, width=800, height=800),
    Sample("wall-underarmour-grey.jpg", "brick", "underarmour", 0.65, 8, width=720, height=720),
    Sample("dahlia-apple.jpg", "flower", "apple", 0.5, 3, part=(0.2, 0, 1, 0.9)),
    Sample("dahlia-overexposed-shell.jpg", "flower", "shell", 0.6, 9, Damage.BRIGHT, 4),
    Sample("city-lights-playstation.jpg", "bokeh", "playstation", 0.6, 11, plate=True),
    Sample("mural-adidas.webp", "cloud", "adidas", 0.7, 12),
    Sample("poster-volkswagen.png", "gradient", "volkswagen", 0.6, 13, plate=True, width=640, height=480),
    Sample(
        "awning-mcdonalds-portrait.jpg",
        "stripes",
        "mcdonalds",
        0.65,
        14,
        width=640,
        height=854,
        plate=True,
        turned=True,
    ),
    Sample("shop-window-starbucks.jpg", "bokeh", "starbucks", 0.7, 15),
    Sample("coffee-clean.jpg", "coffee"),
    Sample("cat-clean.jpg", "chelsea"),
    Sample("cat-closeup-motion.jpg", "chelsea", None, 0, 3, Damage.MOTION, 4, part=(0.2, 0.1, 0.8, 0.7)),
    Sample("brick-clean.jpg", "brick", width=760, height=570),
    Sample("rocket-clean.jpg", "rocket"),
    Sample("flower-clean.jpg", "flower", part=(0.3, 0.3, 0.75, 0.8)),
    Sample("cat-portrait-clean.jpg", "chelsea", part=(0.05, 0, 0.55, 1), width=600, height=800),
    Sample("launch-thumbnail.jpg", "rocket", None, 0, 3, Damage.LOW_RESOLUTION, 4),
    Sample("cafe-other-mark.jpg", "coffee", "kfc", 0.5, 4, plate=True),
    Sample("wall-other-mark.jpg", "brick", "ups", 0.6, 5, width=760, height=760),
    Sample("launch-other-mark.jpg", "rocket", "spacex", 0.55, 6),
    Sample("paint-other-mark.jpg", "cloud", "vodafone", 0.6, 7),
)


def _background(sample: Sample, rng: np.random.Generator) -> Image.Image:
    size = (sample.width, sample.height)
    if sample.background not in _SOURCES:
        picture = PROCEDURAL[sample.background](rng, max(size))
        if sample.background == "gradient":
            add_leaves(rng, picture)
            add_text(rng, picture)
        return picture.crop((0, 0, *size))
    package, name, _ = _SOURCES[sample.background]
    photo = sample_photo(package, name)
    left, top, right, bottom = sample.part
    box = (left * photo.width, top * photo.height, right * photo.width, bottom * photo.height)
    wide = (box[2] - box[0]) / (box[3] - box[1]) > sample.width / sample.height
    used_w = (box[3] - box[1]) * sample.width / sample.height if wide else box[2] - box[0]
    used_h = box[3] - box[1] if wide else (box[2] - box[0]) * sample.height / sample.width
    x, y = (box[0] + box[2] - used_w) / 2, (box[1] + box[3] - used_h) / 2
    return photo.resize(size, Image.Resampling.LANCZOS, (x, y, x + used_w, y + used_h))


def _with_mark(sample: Sample, rng: np.random.Generator, photo: torch.Tensor) -> torch.Tensor:
    """Pastes the mark inside the centre square, which the service's centre crop keeps."""
    if sample.mark is None:
        return photo
    icon = icons[sample.mark]
    mask = torch.from_numpy(render_mask(icon.svg, _MARK_PX).copy())[None, None]
    colour = torch.tensor([[int(icon.hex[i : i + 2], 16) / 255 for i in (0, 2, 4)]])
    look = Look(sample.size, sample.size, 14, 0.12, float(sample.plate), 0.0, 0.95, _REACH)
    side = min(sample.width, sample.height)
    left, top = (sample.width - side) // 2, (sample.height - side) // 2
    square = photo[None, :, top : top + side, left : left + side]
    photo[:, top : top + side, left : left + side] = paste(rng, square, mask, colour, look)[0]
    return photo


def compose_sample(sample: Sample) -> Image.Image:
    """The photo of a row, upright, as RGB."""
    rng = np.random.default_rng((sample.seed, SAMPLES.index(sample)))
    pixels = np.asarray(_background(sample, rng), np.float32).transpose(2, 0, 1) / 255
    photo = _with_mark(sample, rng, torch.from_numpy(pixels.copy()))
    picture = Image.fromarray((photo * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())
    return picture if sample.damage is None else degrade(rng, picture, sample.damage, sample.severity)


def _encode(sample: Sample, picture: Image.Image) -> bytes:
    """The bytes of a file, in the format of its suffix; lossy ones at the best quality under the size limit."""
    stream, suffix = io.BytesIO(), Path(sample.file).suffix
    if suffix == ".png":
        opaque = Image.new("L", picture.size)
        ImageDraw.Draw(opaque).rounded_rectangle((0, 0, picture.width - 1, picture.height - 1), 40, fill=255)
        flat = picture.quantize(48, dither=Image.Dither.NONE).convert("RGBA")
        flat.putalpha(opaque)
        flat.save(stream, "PNG", optimize=True)
        return stream.getvalue()
    exif = Image.Exif()
    if sample.turned:  # as phones store it: the rows of the sensor, and an EXIF orientation
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        exif[_EXIF_ORIENTATION] = _TURN_RIGHT
    if "grey" in sample.file:
        picture = picture.convert("L")
    for quality in range(90, 6, -6):
        stream = io.BytesIO()
        picture.save(stream, "WEBP" if suffix == ".webp" else "JPEG", quality=quality, exif=exif)
        if stream.tell() <= _LARGEST_BYTES:
            break
    return stream.getvalue()


def _sources() -> str:
    lines = [
        "# Sources of the sample photos",
        "",
        "Made by `photo-trainer samples`: backgrounds below, with brand marks from simpleicons (paths CC0) on some.",
        "The marks are trademarks of their owners and stand here only as something to recognise.",
        "",
        "| file | background | source and licence |",
        "|---|---|---|",
    ]
    for sample in SAMPLES:
        package, name, terms = _SOURCES.get(sample.background, ("", "", "this project, Apache-2.0"))
        wheel = "scikit-image" if package == "skimage" else "scikit-learn"
        lines.append(f"| {sample.file} | {f'{name} of the {wheel} wheel' if name else 'drawn'} | {terms} |")
    return "\n".join(lines) + "\n"


def write_samples(out: Path) -> tuple[int, int]:
    """Writes every sample, SOURCES.md and expectations.json; returns how many photos and how many bytes."""
    out.mkdir(parents=True, exist_ok=True)
    expected, total = {}, 0
    for sample in SAMPLES:
        content = _encode(sample, compose_sample(sample))
        (out / sample.file).write_bytes(content)
        total += len(content)
        brand = sample.mark if sample.mark in BRANDS else None
        expected[sample.file] = {"brand": brand, "quality": "poor" if sample.severity >= _POOR else "good"}
    (out / "expectations.json").write_text(json.dumps(expected, indent=2) + "\n")
    (out / "SOURCES.md").write_text(_sources())
    return len(SAMPLES), total
