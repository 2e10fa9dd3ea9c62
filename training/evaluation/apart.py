"""Figures on test photos that share something with training, beside those on photos that share nothing."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from training.data.photos import Photo
from training.evaluation.answers import Figure
from training.evaluation.slices import LEAST_PHOTOS
from training.statistics import Ints

#: Figures whose drop on photos that share nothing raises an alarm.
_HEADLINES: Final = ("accuracy", "macro_recall", "srcc", "auc")


@dataclass(frozen=True, slots=True)
class Apart:
    """The test photos that code did not draw, in two parts."""

    #: What is shared: photos that share it; a photo may share several things.
    shared: Mapping[str, int]
    #: Photos that share something, and that share nothing.
    sharing_photos: int
    apart_photos: int
    #: Of each part; empty where it has fewer than 20 photos.
    sharing: Mapping[str, Figure] = field(default_factory=dict)
    apart: Mapping[str, Figure] = field(default_factory=dict)

    def alarms(self) -> list[str]:
        """That the figures flatter, or that nobody can know whether they do."""
        total = self.sharing_photos + self.apart_photos
        if self.sharing_photos and self.apart_photos < LEAST_PHOTOS:
            line = (
                f"{self.sharing_photos} of {total} test photos share looks, moment, series or uploader with training: "
                "nothing is known about photos from elsewhere; keep such photos in one split (data.split.scenes, a "
                "group column), or test on others"
            )
            return [line]
        return [
            f"{name.replace('_', ' ')} is {self.sharing[name].value:.3f} on test photos that share something with "
            f"training, {self.apart[name].value:.3f} on the {self.apart_photos} others"
            for name in _HEADLINES
            if name in self.apart and name in self.sharing and self.apart[name].high < self.sharing[name].low
        ]


def divided(
    photos: Sequence[Photo], shared: Sequence[tuple[str, ...]], figures: Callable[[Ints], Mapping[str, Figure]]
) -> Apart | None:
    """Figures of both parts; None if code drew all photos, or what they share is not known.

    Args:
        photos: The test photos.
        shared: What each shares with training (`related.related`); empty if it is not known.
        figures: The figures of the photos at some indices.
    """
    real = [place for place, photo in enumerate(photos[: len(shared)]) if not photo.drawn]
    if not real:
        return None
    parts = [np.array([place for place in real if bool(shared[place]) is some], np.int64) for some in (True, False)]
    measured = [figures(part) if len(part) >= LEAST_PHOTOS else {} for part in parts]
    counts = Counter(name for place in real for name in shared[place])
    return Apart(dict(counts), len(parts[0]), len(parts[1]), *measured)
