"""Paired damage: how often a damaged copy of a photo scores lower than the photo itself, by kind and by size.

Unlike a rank correlation over all photos it tells whether a model sees the damage: everything else in a pair is equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import numpy as np
from PIL import Image

from training.data.decode import Decoded, Geometry, square
from training.data.degrade import blurred, enlarged_thumbnail, exposed, noise, through_jpeg, with_noise
from training.data.packshots import on_white
from training.statistics import Floats, Interval, share, wilson

Spoil = Callable[[Image.Image], Image.Image]
#: Scores uint8 photos [N, S, S, 3] as the service does: [N].
Score = Callable[[np.ndarray], Floats]


@lru_cache(maxsize=2)
def _noise(size: tuple[int, int]) -> Floats:
    return noise(np.random.default_rng(size), size)


def _noisy(deviation: float, photo: Image.Image) -> Image.Image:
    return with_noise(photo, _noise(photo.size), deviation)


#: Damage that looks the same at any size of the photo.
RELATIVE: Final[dict[str, Spoil]] = {
    "blur, 0.6 % of the short side": partial(blurred, share=0.006),
    "2 stops too dark": partial(exposed, stops=-2.0),
    "1 stop too bright": partial(exposed, stops=1.0),
    "1.2 stops too bright": partial(exposed, stops=1.2),
    "thumbnail of 128 px, enlarged": partial(enlarged_thumbnail, px=128, how=Image.Resampling.BICUBIC),
}
#: Damage of single pixels, which is seen less the larger the photo.
ABSOLUTE: Final[dict[str, Spoil]] = {
    "noise, deviation 25": partial(_noisy, 25.0),
    "noise, deviation 50": partial(_noisy, 50.0),
    "JPEG quality 10": partial(through_jpeg, quality=10),
    "JPEG quality 5": partial(through_jpeg, quality=5),
}
#: Short sides, px, at which photos are damaged: about 0.3 and 3 megapixels.
SMALL_PX, LARGE_PX = 480, 1440


@dataclass(frozen=True, slots=True)
class Pairs:
    """Photos and their copies with one kind of damage."""

    damage: str
    #: Short side of the photos when they were damaged, px.
    short_side: int
    #: Whether the photos were cut out and put on white first.
    on_white: bool
    photos: int
    #: Share of pairs in which the copy scores lower.
    lower: float
    interval: Interval
    #: Median of how much lower.
    drop: float


@dataclass(frozen=True, slots=True)
class PairedDamage:
    """All pairs, and what the model says of undamaged photos on white."""

    pairs: tuple[Pairs, ...]
    #: Photos on white, and the share of them that is called poor; of photos that are called good as they are.
    packshots: int
    poor_packshots: float


def paired_damage(photos: Sequence[Decoded], geometry: Geometry, score: Score, threshold: float) -> PairedDamage:
    """Measures pairs on photos at their full size, whose centre squares are brought to each short side.

    Args:
        photos: Undamaged photos.
        geometry: The model's.
        score: The model.
        threshold: Scores below it are poor.
    """
    px = geometry.input_size

    def seen(pictures: Sequence[Image.Image]) -> np.ndarray:
        return np.stack([np.asarray(p.resize((px, px), Image.Resampling.BILINEAR)) for p in pictures])

    def pairs(side: int, kinds: dict[str, Spoil], *, white: bool) -> tuple[Floats, list[Pairs]]:
        whole = [Image.fromarray(square(photo, Geometry(side, side))) for photo in photos]
        if white:
            whole = [on_white(np.random.default_rng((7, index)), photo) for index, photo in enumerate(whole)]
        before, made = score(seen(whole)), []
        for name, spoil in kinds.items():
            drops = before - score(seen([spoil(photo) for photo in whole]))
            lower = drops > 0
            interval = wilson(int(lower.sum()), len(lower))
            made.append(Pairs(name, side, white, len(lower), share(lower), interval, float(np.median(drops))))
        return before, made

    plain, small = pairs(SMALL_PX, RELATIVE | ABSOLUTE, white=False)
    _, large = pairs(LARGE_PX, ABSOLUTE, white=False)
    white, packed = pairs(SMALL_PX, RELATIVE | ABSOLUTE, white=True)
    poor = (white < threshold)[plain >= threshold]
    return PairedDamage((*small, *large, *packed), len(poor), share(poor))
