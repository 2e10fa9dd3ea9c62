"""Backgrounds for composed photos: procedural scenes and crops of the sample photos in scikit-image and scikit-learn.

Sample photos are split by name, so that no pixel of a validation or test photo is trained on.
"""

import colorsys
import string
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.data.photos import TEST, TRAIN, VAL

#: Side of the square canvases of a bank, in px: twice the model's input, so that detail survives augmentation.
CANVAS_PX = 192
#: Share of canvases that start from a sample photo; the rest start from procedural colour.
PHOTO_SHARE = 0.55
#: Threads that draw scenes; each scene has its own seed, so the result does not depend on their number.
WORKERS = 2


_SKIMAGE = "skimage"
_SKLEARN = "sklearn"
#: (package, file) of each sample photo, by split; no split shares one with another.
PHOTOS: dict[str, tuple[tuple[str, str], ...]] = {
    TRAIN: (
        (_SKIMAGE, "astronaut.png"),
        (_SKIMAGE, "motorcycle_left.png"),
        (_SKIMAGE, "motorcycle_right.png"),
        (_SKLEARN, "china.jpg"),
        (_SKIMAGE, "grass.png"),
        (_SKIMAGE, "gravel.png"),
        (_SKIMAGE, "hubble_deep_field.jpg"),
        (_SKIMAGE, "ihc.png"),
        (_SKIMAGE, "coins.png"),
        (_SKIMAGE, "camera.png"),
        (_SKIMAGE, "page.png"),
        (_SKIMAGE, "retina.jpg"),
    ),
    VAL: ((_SKIMAGE, "rocket.jpg"), (_SKIMAGE, "brick.png"), (_SKIMAGE, "moon.png"), (_SKLEARN, "flower.jpg")),
    TEST: ((_SKIMAGE, "coffee.png"), (_SKIMAGE, "chelsea.png"), (_SKIMAGE, "text.png"), (_SKIMAGE, "cell.png")),
}
_FOLDERS = {_SKIMAGE: ("data",), _SKLEARN: ("datasets", "images")}


def sample_photo(package: str, name: str) -> Image.Image:
    """One sample photo of a dependency, as RGB. Raises FileNotFoundError if the wheel lacks it."""
    folder = files(package).joinpath(*_FOLDERS[package])
    with folder.joinpath(name).open("rb") as stream, Image.open(stream, formats=("JPEG", "PNG")) as photo:
        return photo.convert("RGB")


@cache
def _photos(split: str) -> tuple[Image.Image, ...]:
    return tuple(sample_photo(package, name) for package, name in PHOTOS[split])


def random_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """An RGB colour, 0..255; mostly muted, as surfaces in photos are, sometimes vivid."""
    saturation = rng.beta(1.2, 2.5) if rng.random() < 0.7 else rng.uniform(0.5, 1.0)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, rng.beta(1.6, 1.3))
    return round(red * 255), round(green * 255), round(blue * 255)


def noise_field(rng: np.random.Generator, size: int, roughness: float) -> np.ndarray:
    """Float32 [size, size], mean 0, deviation 1: octaves of noise whose amplitude falls as frequency ** -roughness."""
    field = np.zeros((size, size), np.float32)
    cells = 2
    while cells <= size:
        octave = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
        field += np.asarray(octave.resize((size, size), Image.Resampling.BICUBIC)) * cells**-roughness
        cells *= 2
    normal: np.ndarray = (field - field.mean()) / (field.std() + 1e-6)
    return normal


def _gradient(rng: np.random.Generator, size: int) -> Image.Image:
    side = int(rng.integers(2, 4))
    corners = np.array([[random_colour(rng) for _ in range(side)] for _ in range(side)], np.uint8)
    return Image.fromarray(corners).resize((size, size), Image.Resampling.BICUBIC)


def _cloud(rng: np.random.Generator, size: int) -> Image.Image:
    base = np.array(random_colour(rng), np.float32)
    shared = noise_field(rng, size, rng.uniform(0.3, 1.4))
    tint = noise_field(rng, size, 1.2)
    directions = rng.normal(0, 1, (2, 3)).astype(np.float32)
    directions[0] = rng.uniform(15, 55) * (0.8 + 0.2 * directions[0])
    directions[1] *= rng.uniform(0, 25)
    pixels = base + shared[..., None] * directions[0] + tint[..., None] * directions[1]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _stripes(rng: np.random.Generator, size: int) -> Image.Image:
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    warp = noise_field(rng, size, 1.5) * rng.uniform(0, 0.03)
    field = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        angle, cycles = rng.uniform(0, np.pi), rng.uniform(3, 25)
        wave = np.sin(2 * np.pi * cycles * (rows * np.sin(angle) + columns * np.cos(angle) + warp))
        field += np.clip(wave * rng.choice([1.0, 8.0]), -1, 1)
    mix = (field - field.min()) / (np.ptp(field) + 1e-6)
    first, second = (np.array(random_colour(rng), np.float32) for _ in range(2))
    return Image.fromarray((first + (second - first) * mix[..., None]).astype(np.uint8))


def _bokeh(rng: np.random.Generator, size: int) -> Image.Image:
    picture = _gradient(rng, size).point(lambda value: value // 2)
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(int(rng.integers(8, 40))):
        x, y, radius = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(0.01, 0.09) * size
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), (*random_colour(rng), int(rng.integers(60, 220)))
        )
    return picture.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.002, 0.012)))


def _rosette(rng: np.random.Generator, size: int) -> Image.Image:
    """A round, patterned object on a plain ground, such as a flower, wheel or plate: not a logo."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    x, y = columns - rng.normal(0, 0.08), (rows - rng.normal(0, 0.08)) * rng.uniform(0.7, 1.4)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    petals, rings, twist = rng.integers(3, 25), rng.uniform(5, 45), rng.choice([0, 1, -1]) * rng.uniform(0, 20)
    wave = np.sin(petals * angle + twist * radius) * rng.uniform(0, 1) + np.sin(
        rings * radius + 3 * np.sin(petals * angle)
    )
    edge = rng.uniform(0.15, 0.5) * (1 + rng.uniform(0, 0.15) * np.sin(petals * angle))
    inside = np.clip((edge - radius) * size / rng.uniform(1, 6), 0, 1)[..., None]
    first, second = (np.array(random_colour(rng), np.float32) for _ in range(2))
    thing = first + (second - first) * (wave[..., None] * 0.25 + 0.5) + noise_field(rng, size, 0.8)[..., None] * 10
    ground = np.asarray((_gradient, _cloud)[int(rng.integers(2))](rng, size), np.float32)
    return Image.fromarray((ground + (thing - ground) * inside).clip(0, 255).astype(np.uint8))


#: Backgrounds drawn by code, each a function of a generator and a side in pixels.
PROCEDURAL: dict[str, Callable[[np.random.Generator, int], Image.Image]] = {
    "gradient": _gradient,
    "cloud": _cloud,
    "stripes": _stripes,
    "bokeh": _bokeh,
    "rosette": _rosette,
}


def photo_crop(rng: np.random.Generator, photo: Image.Image, size: int) -> Image.Image:
    """A square crop of a photo, mirrored, turned and recoloured at random, so that a few photos make many scenes."""
    side = min(photo.size) * rng.uniform(0.3, 1.0)
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=2.0)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.15:
        crop = crop.transpose(Image.Transpose.ROTATE_90)
    pixels = np.asarray(crop, np.float32) / 255
    if rng.random() < 0.6:
        mix = np.eye(3) + rng.normal(0, 0.12, (3, 3))
        if rng.random() < 0.35:
            mix = mix[rng.permutation(3)]
        pixels = pixels @ (mix / mix.sum(axis=1, keepdims=True)).T.astype(np.float32) * rng.uniform(0.85, 1.15, 3)
    pixels = pixels.clip(0, 1) ** rng.uniform(0.7, 1.4)
    return Image.fromarray((pixels * 255).astype(np.uint8))


def _leaf(rng: np.random.Generator, size: int, draw: ImageDraw.ImageDraw, fill: int | tuple[int, int, int]) -> None:
    """One random convex-ish shape, sizes drawn from a heavy tail as in the dead-leaves model of natural images."""
    radius = size * 0.03 * min(float(rng.pareto(1.3)) + 0.5, 9)
    x, y = rng.uniform(0, size, 2)
    stretch, kind = rng.uniform(0.4, 1.0), rng.integers(3)
    box = (x - radius, y - radius * stretch, x + radius, y + radius * stretch)
    if kind == 0:
        draw.ellipse(box, fill=fill)
    elif kind == 1:
        draw.rounded_rectangle(box, radius=float(rng.uniform(0, radius * stretch)), fill=fill)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        reach = radius * rng.uniform(0.5, 1.0, angles.size)
        draw.polygon([(x + r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, reach, strict=True)], fill=fill)


def add_leaves(rng: np.random.Generator, picture: Image.Image) -> None:
    """Draws plain and textured shapes over each other, in place: edges and occlusion at every scale."""
    size = picture.width
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 60))):
        _leaf(rng, size, draw, random_colour(rng))
    for kind in rng.choice(["cloud", "stripes", "gradient"], int(rng.integers(0, 3))):
        mask = Image.new("L", picture.size)
        mask_draw = ImageDraw.Draw(mask)
        for _ in range(int(rng.integers(1, 8))):
            _leaf(rng, size, mask_draw, 255)
        picture.paste(PROCEDURAL[str(kind)](rng, size), (0, 0), mask)


def random_text(rng: np.random.Generator, longest: int) -> str:
    """1 to `longest` printable characters."""
    letters = list(string.ascii_letters + string.digits + "&!?$%#+-.:  ")
    return "".join(rng.choice(letters, int(rng.integers(1, longest + 1))))


def add_text(rng: np.random.Generator, picture: Image.Image) -> None:
    """Writes a few lines of text-like clutter, in place: signs, labels and print without a brand."""
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 7))):
        font = ImageFont.load_default(float(picture.width * rng.uniform(0.05, 0.3)))
        x, y = rng.uniform(-0.1, 0.8, 2) * picture.width
        draw.text((x, y), random_text(rng, 12), fill=random_colour(rng), font=font)


def add_strokes(rng: np.random.Generator, picture: Image.Image) -> None:
    """Draws rings, arcs and lines, in place: wheels, cables, branches."""
    draw, size = ImageDraw.Draw(picture), picture.width
    for _ in range(int(rng.integers(1, 10))):
        x, y, width = *rng.uniform(0, size, 2), max(1, int(size * rng.uniform(0.005, 0.05)))
        if rng.random() < 0.5:
            radius = size * rng.uniform(0.05, 0.4)
            start = rng.uniform(0, 360)
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.arc(box, start, start + rng.uniform(60, 360), random_colour(rng), width)
        else:
            draw.line((x, y, *rng.uniform(0, size, 2)), random_colour(rng), width)


def light(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """The picture under uneven light: a smooth brightness field, and mild loss of contrast (dull is not damaged)."""
    field = noise_field(rng, 16, 2.0) * rng.uniform(0, 0.18) + 1
    smooth = np.asarray(Image.fromarray(field).resize(picture.size, Image.Resampling.BICUBIC))
    contrast = rng.uniform(0.65, 1.05)
    pixels = (np.asarray(picture, np.float32) - 128) * contrast + 128 + rng.uniform(-12, 12)
    return Image.fromarray((pixels * smooth[..., None]).clip(0, 255).astype(np.uint8))


def scene(rng: np.random.Generator, split: str, size: int = CANVAS_PX) -> Image.Image:
    """One square background without any brand mark: a photo crop or procedural colour, often with clutter on it."""
    photos = _photos(split)
    if rng.random() < PHOTO_SHARE:
        picture = photo_crop(rng, photos[int(rng.integers(len(photos)))], size)
        clutter = 0.25
    else:
        kind = str(rng.choice(list(PROCEDURAL), p=[0.26, 0.28, 0.12, 0.14, 0.2]))
        picture = PROCEDURAL[kind](rng, size)
        clutter = 0.6
    for add in (add_leaves, add_strokes, add_text):
        if rng.random() < clutter:
            add(rng, picture)
    return light(rng, picture)


def background_bank(seed: int, split: str, count: int, size: int = CANVAS_PX) -> torch.Tensor:
    """`count` scenes as uint8 [count, 3, size, size]; equal for equal arguments."""
    bank = torch.empty((count, 3, size, size), dtype=torch.uint8)

    def fill(index: int) -> None:
        made = scene(np.random.default_rng((seed, index)), split, size)
        bank[index] = torch.from_numpy(np.asarray(made).transpose(2, 0, 1).copy())

    _photos(split)  # read once, before the threads ask for them
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(fill, range(count)))  # raises what a thread raised
    return bank
