"""What a frozen network makes of a study's rated photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import SPLITS, Photo
from training.heads.features import Backbone, Features, backbone, cache_file, extract
from training.progress import task
from training.recipes.recipe import Model
from training.statistics import Ints
from training.studies.rated import sides
from training.studies.study import Options


@dataclass(frozen=True, slots=True)
class FrozenFeatures:
    """A frozen network, and what it makes of every split."""

    source: Backbone
    features: Mapping[str, Features]
    photos: Mapping[str, Sequence[Photo]]
    #: Whether all of it was in the cache: the time that it took is then that of reading.
    cached: bool = False

    def sided(self, split: str) -> tuple[Features, Ints]:
        """Features and sides of the photos that are poor or good."""
        which, values = sides(self.photos[split])
        return np.asarray(self.features[split])[which], values


@dataclass(frozen=True, slots=True)
class Look:
    """How photos are looked at."""

    #: Side of the square; 0: what the network was designed for.
    px: int
    workers: int


def features_of(arch: str, manifest: Manifest, options: Options, look: Look, console: Console) -> FrozenFeatures:
    """The features of all photos, from the cache where they are there; raises as `features.backbone` and `extract`."""
    model = Model(arch=arch, weights=options.weights.get(arch), pretrained=_downloads(arch, options))
    source = backbone(model, options.seed, look.px or None)
    photos = {split: manifest.of(split) for split in SPLITS}
    made: dict[str, Features] = {}
    cached = all(cache_file(source, some, options.cache).is_file() for some in photos.values())
    with task(console, arch, len(manifest.photos)) as done:
        for split, some in photos.items():
            made[split] = extract(source, some, options.cache, workers=look.workers, on_done=done)
    return FrozenFeatures(source, made, photos, cached)


def _downloads(arch: str, options: Options) -> bool:
    return options.pretrained and arch not in options.weights and not arch.startswith("resnet10")
