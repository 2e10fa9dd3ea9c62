"""Synthetic damage of known severity, done to a photo at its full size, before the model's resize.

Severity is 0 (undamaged) to 4 (worst), fractions included; it turns a photo of level 5 into one of level 5 - severity.
Blur, motion, grain and lost resolution are shares of the short side, since they look the same at any size. Noise and
JPEG work on single pixels: of a larger photo, seen as a whole, they take less away, so their strengths grow with it.
"""

import io
from collections.abc import Callable
from enum import StrEnum
from functools import reduce
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from training.statistics import Floats

#: Severity of the worst grade; level = 5 - severity.
WORST: Final = 4
#: Short side, px, of the photo that the strengths of noise and JPEG are stated for.
_REFERENCE_PX: Final = 576
#: Short sides, px, of the photos that get damage: from a thumbnail's to a camera's.
_SMALLEST_PX, _LARGEST_PX = 288, 1200
#: Short side, px, at which a motion is drawn; it blurs more than the enlargement from it.
_MOTION_PX: Final = 320
#: Pixels of which a channel reaches this have nothing to lose by overexposure, which stops at so many stops.
_WHITE, _MOST_STOPS = 254, 3.0
_Strength = tuple[float, ...]


class Damage(StrEnum):
    """One kind of damage."""

    BLUR = "blur"
    MOTION = "motion"
    NOISE = "noise"
    GRAIN = "grain"
    DARK = "dark"
    BRIGHT = "bright"
    JPEG = "jpeg"
    LOW_RESOLUTION = "low_resolution"


#: Too little and too much light: how far this spoils a photo depends on the photo more than that of other kinds.
EXPOSURES: Final = frozenset({Damage.DARK, Damage.BRIGHT})


def blurred(photo: Image.Image, share: float) -> Image.Image:
    """The photo with a Gaussian blur whose sigma is a share of its short side."""
    return photo.filter(ImageFilter.GaussianBlur(share * min(photo.size)))


def _blur(_rng: np.random.Generator, photo: Image.Image, share: float) -> Image.Image:
    return blurred(photo, share)


def _motion(rng: np.random.Generator, photo: Image.Image, length: float) -> Image.Image:
    """Averages the photo over a straight line at any angle, as a moving camera does."""
    side, angle = min(photo.size), float(rng.uniform(0, np.pi))
    shrink = min(1.0, _MOTION_PX / side)
    size = (max(2, round(photo.width * shrink)), max(2, round(photo.height * shrink)))
    small = photo.resize(size, Image.Resampling.BILINEAR)
    length *= min(small.size)
    reach = int(length / 2) + 1
    padded = np.pad(np.asarray(small, np.uint16), ((reach, reach), (reach, reach), (0, 0)), "edge")
    height, width = small.height, small.width
    offsets = np.linspace(-0.5, 0.5, max(3, int(length))) * length
    total = np.zeros((height, width, 3), np.uint32)
    for offset in offsets:
        y, x = reach + round(float(offset * np.sin(angle))), reach + round(float(offset * np.cos(angle)))
        total += padded[y : y + height, x : x + width]
    return Image.fromarray((total // len(offsets)).astype(np.uint8)).resize(photo.size, Image.Resampling.BICUBIC)


def noise(rng: np.random.Generator, size: tuple[int, int], grain: float = 1.0) -> Floats:
    """Noise [height, width, 3] of deviation 1 for photos of (width, height), partly coloured; `grain` px are alike."""
    width, height = size
    rows, columns = max(1, round(height / grain)), max(1, round(width / grain))
    coloured = float(rng.uniform())
    field: Floats = np.sqrt(1 - coloured) * rng.standard_normal((rows, columns, 1), np.float32)
    field = field + np.sqrt(coloured) * rng.standard_normal((rows, columns, 3), np.float32)
    if (rows, columns) != (height, width):
        field = field[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
    return field


def with_noise(photo: Image.Image, field: Floats, deviation: float) -> Image.Image:
    """The photo with noise of a deviation in 0..255."""
    pixels = np.asarray(photo, np.float32) + np.float32(deviation) * field
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def speckled(rng: np.random.Generator, photo: Image.Image, deviation: float, grain: float = 1.0) -> Image.Image:
    """The photo with new noise of a deviation in 0..255, in squares of `grain` px."""
    return with_noise(photo, noise(rng, photo.size, grain), deviation)


def _noise(rng: np.random.Generator, photo: Image.Image, deviation: float) -> Image.Image:
    return speckled(rng, photo, min(deviation * (min(photo.size) / _REFERENCE_PX) ** 0.5, 110))


def _grain(rng: np.random.Generator, photo: Image.Image, deviation: float) -> Image.Image:
    """Noise of a small or old camera: grains that a resize does not remove."""
    return speckled(rng, photo, deviation, max(1.0, min(photo.size) / float(rng.uniform(190, 400))))


def exposed(photo: Image.Image, stops: float) -> Image.Image:
    """The photo with its values times 2 to the power of `stops`."""
    return photo.point([min(255, round(value * 2**stops)) for value in range(256)] * 3)


def _dark(rng: np.random.Generator, photo: Image.Image, stops: float) -> Image.Image:
    return speckled(rng, exposed(photo, -stops), float(rng.uniform(0, 3)) * stops)


def overexposed(photo: Image.Image, share: float) -> Image.Image:
    """The photo so much brighter, by three stops at most, that a share of its pixels that were not yet white turn so.

    By equal stops, a dark photo would lose nothing and a bright one all.
    """
    brightest = reduce(ImageChops.lighter, photo.split()).histogram()[:_WHITE]
    from_above = np.cumsum(brightest[::-1])
    least = _WHITE - 1 - int(np.searchsorted(from_above, share * from_above[-1]))
    return exposed(photo, min(_MOST_STOPS, float(np.log2(255 / max(1, least)))))


def _bright(_rng: np.random.Generator, photo: Image.Image, share: float) -> Image.Image:
    return overexposed(photo, share)


def through_jpeg(photo: Image.Image, quality: float) -> Image.Image:
    """The photo after a JPEG file of a quality 1..100."""
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=max(1, round(quality)))
    with Image.open(stream, formats=("JPEG",)) as lossy:
        return lossy.convert("RGB")


def _jpeg(_rng: np.random.Generator, photo: Image.Image, quality: float) -> Image.Image:
    return through_jpeg(photo, quality * min(1.0, (_REFERENCE_PX / min(photo.size)) ** 0.5))


def enlarged_thumbnail(photo: Image.Image, px: float, how: Image.Resampling) -> Image.Image:
    """The photo as its thumbnail of a short side of `px`, enlarged to its size."""
    share = min(1.0, px / min(photo.size))
    small = photo.resize(
        (max(2, round(photo.width * share)), max(2, round(photo.height * share))), Image.Resampling.BOX
    )
    return small.resize(photo.size, how)


def _low_resolution(rng: np.random.Generator, photo: Image.Image, px: float) -> Image.Image:
    ways = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    return enlarged_thumbnail(photo, px, ways[int(rng.integers(len(ways)))])


#: What makes each kind of damage, and its strength at severity 0..4.
_KINDS: Final[dict[Damage, tuple[Callable[[np.random.Generator, Image.Image, float], Image.Image], _Strength]]] = {
    Damage.BLUR: (_blur, (0.0, 0.004, 0.009, 0.016, 0.03)),  # sigma, share of the short side
    Damage.MOTION: (_motion, (0.0, 0.02, 0.04, 0.075, 0.13)),  # length of the smear, share of the short side
    Damage.NOISE: (_noise, (0.0, 14.0, 28.0, 48.0, 75.0)),  # deviation, of 255
    Damage.GRAIN: (_grain, (0.0, 11.0, 22.0, 36.0, 58.0)),  # the same
    Damage.DARK: (_dark, (0.0, 1.0, 1.8, 2.6, 3.6)),  # stops
    Damage.BRIGHT: (_bright, (0.0, 0.1, 0.25, 0.45, 0.75)),  # share of the pixels that turns white
    Damage.JPEG: (_jpeg, (60.0, 22.0, 12.0, 7.0, 3.0)),  # quality
    Damage.LOW_RESOLUTION: (_low_resolution, (288.0, 180.0, 128.0, 80.0, 36.0)),  # short side of the thumbnail, px
}


def degrade(rng: np.random.Generator, photo: Image.Image, damage: Damage, severity: float) -> Image.Image:
    """An RGB photo with one kind of damage at a severity 0..4.

    The strength is interpolated between the five grades; severity 0 returns the photo as it is.
    """
    apply, strengths = _KINDS[damage]
    return photo if severity <= 0 else apply(rng, photo, float(np.interp(severity, range(WORST + 1), strengths)))


def draw_side(rng: np.random.Generator) -> int:
    """The short side, px, that a photo has when it is damaged: small ones as often as large ones."""
    return round(float(np.exp(rng.uniform(np.log(_SMALLEST_PX), np.log(_LARGEST_PX)))))


def draw_damage(rng: np.random.Generator, severity: float) -> list[tuple[Damage, float]]:
    """The damage that makes a grade 0..4: one kind, or two kinds that are each one grade milder.

    Grades spread by up to 0.3 to each side, since photos do not come in five steps; grade 0 is untouched.
    """
    kinds = list(Damage)
    first, second = (kinds[int(index)] for index in rng.choice(len(kinds), 2, replace=False))
    jitter = float(rng.uniform(-0.3, 0.3))
    if severity >= 2 and rng.random() < 0.3:
        return [(first, severity - 1 + jitter), (second, severity - 1 + jitter)]
    return [(first, min(severity + jitter, WORST))] if severity else []


def damaged(rng: np.random.Generator, photo: Image.Image, severity: float) -> Image.Image:
    """A photo with a random damage of a grade 0..4, as `draw_damage` draws it."""
    for damage, grade in draw_damage(rng, severity):
        photo = degrade(rng, photo, damage, grade)
    return photo
