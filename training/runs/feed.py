"""Training batches: photos decoded once, photos composed for every step, and their targets.

A batch depends only on the recipe's seed, the step and the process, so a resumed run sees the same batches.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from training.data.decode import Geometry
from training.data.made import brand_composer, marks_name
from training.data.manifest import Manifest
from training.data.photos import NO_LOGO, TRAIN, VAL, Photo
from training.data.pixels import cached_stack, stack
from training.data.sets import BrandComposer
from training.progress import task
from training.recipes.recipe import Data, Recipe
from training.recipes.sources import ComposedSource
from training.runs.augment import mixed, recoloured, scrambled, views, worn
from training.runs.distributed import Process
from training.runs.objective import level_distribution
from training.runs.sampling import SamplingOrder


class Batch(NamedTuple):
    """The photos of a step."""

    #: float32 [N, 3, S, S] in 0..1, S of `Recipe.trained_px`, or features of them [N, F].
    images: Tensor
    #: [N, outputs]; each sums to 1.
    targets: Tensor
    #: Which photos are damaged copies [N].
    copies: Tensor


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """A held-out split in memory: uint8 [N, 3, S, S], and targets [N, outputs] as the loss takes them."""

    images: Tensor
    targets: Tensor


def targets_of(photos: Sequence[Photo], labels: tuple[str, ...]) -> Tensor:
    """Targets float32 [N, outputs]: one-hot brands, or distributions over levels."""
    if not photos:
        return torch.zeros((0, len(labels)))
    if photos[0].rating is not None:
        return torch.tensor([level_distribution(photo.rating or 0.0, photo.votes) for photo in photos])
    index = torch.tensor([labels.index(photo.label or NO_LOGO) for photo in photos])
    return functional.one_hot(index, len(labels)).float()


def pixels_of(photos: Sequence[Photo], px: int, data: Data, console: Console, what: str) -> Tensor:
    """All photos as uint8 [N, 3, px, px]: from the cache, or decoded now."""
    with task(console, what, len(photos)) as done:
        return cached_stack(photos, Geometry(px, px), data.workers, data.cache, done)


def validation_set(recipe: Recipe, manifest: Manifest, console: Console) -> ValidationSet:
    """The val split as the service would see it."""
    photos = manifest.of(VAL)
    images = pixels_of(photos, recipe.model.input_px, recipe.data, console, "validation photos")
    return ValidationSet(images, targets_of(photos, manifest.labels))


class Feed:
    """Makes the training batches of one process."""

    def __init__(self, recipe: Recipe, manifest: Manifest, process: Process, console: Console) -> None:
        self._recipe, self._process, self._labels = recipe, process, manifest.labels
        self._photos = manifest.of(TRAIN)
        self._targets = targets_of(self._photos, manifest.labels)
        self._copies = torch.tensor([photo.damage is not None for photo in self._photos])
        data = recipe.data
        self._bank = pixels_of(self._photos, data.stored_px, data, console, "training photos") if data.cache else None
        composed = [source for source in data.sources if isinstance(source, ComposedSource)]
        with console.status("drawing scenes"):
            self._composers = [(self._composer(source).to(process.device), source.share) for source in composed]
        made = sum(round(recipe.train.batch * share) for _, share in self._composers)
        self._listed = max(0, recipe.train.batch - made) if self._photos else 0
        no_logo_share = recipe.train.no_logo_share
        self._order = SamplingOrder(
            [int(target.argmax()) for target in self._targets],
            self._listed,
            recipe.seed,
            balanced=recipe.train.sampler == "balanced",
            reserved=None
            if no_logo_share is None or recipe.task != "brand"
            else (len(self._labels) - 1, no_logo_share),
        )

    def _composer(self, source: ComposedSource) -> BrandComposer:
        """The composer of a source; beside its drawn scenes, it uses as many listed photos without a brand."""
        px, marks = self._recipe.trained_px, marks_name(source.marks, source.brands)
        made = brand_composer(TRAIN, marks, source.scenes, px)
        plain = [index for index, photo in enumerate(self._photos) if photo.label == NO_LOGO]
        if len(plain) > source.scenes:
            plain = [plain[index * len(plain) // source.scenes] for index in range(source.scenes)]
        return made.on(self._stored(plain)) if plain else made

    def _stored(self, indices: list[int]) -> Tensor:
        """The stored squares of photos, uint8 [N, 3, stored_px, stored_px]: from memory, or decoded now."""
        if self._bank is not None:
            return self._bank[torch.tensor(indices)]
        data = self._recipe.data
        return stack([self._photos[i] for i in indices], Geometry(data.stored_px, data.stored_px), data.workers)

    def batch(self, step: int) -> Batch:
        """This process's photos of a step, counted from 0 over all stages."""
        recipe, process = self._recipe, self._process
        rng = np.random.default_rng((recipe.seed, step, process.rank))
        parts: list[Batch] = []
        if self._listed:
            indices = self._order.indices(step)[process.rank :: process.world]
            photos = views(rng, self._stored(indices), recipe.augment, recipe.trained_px)
            photos = worn(rng, recoloured(rng, photos, recipe.augment), recipe.augment)
            chosen = torch.tensor(indices)
            targets = self._targets[chosen].clone()
            if recipe.augment.scramble and recipe.task == "brand":
                photos, targets = scrambled(rng, photos, targets, recipe.augment.scramble, len(self._labels) - 1)
            parts.append(Batch(*(part.to(process.device) for part in (photos, targets, self._copies[chosen]))))
        for composer, share in self._composers:
            count = round(recipe.train.batch * share) // process.world
            if count:
                with process.device:
                    parts.append(self._composed(rng, composer, count))
        photos, targets, copies = (torch.cat(part) for part in zip(*parts, strict=True))
        return Batch(*mixed(rng, photos, targets, recipe.augment), copies)

    def _composed(self, rng: np.random.Generator, composer: BrandComposer, count: int) -> Batch:
        """Photos of brands that are not among the labels are targets of `no_logo`, the last label."""
        made, last = composer.batch(rng, count), len(self._labels) - 1
        index = {label: place for place, label in enumerate(self._labels)}
        places = torch.tensor([index.get(name, last) for name in (*composer.brands.names, NO_LOGO)])
        targets = functional.one_hot(places[made.labels], last + 1).float()
        return Batch(made.images.float() / 255, targets, torch.zeros(count, dtype=torch.bool))

    @property
    def rank(self) -> int:
        """Which of the processes it is for."""
        return self._process.rank

    @property
    def steps_of_round(self) -> float | None:
        """Steps in which as many listed photos are drawn as there are; None if all photos are composed."""
        return len(self._photos) / self._listed if self._listed else None

    def ahead(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of steps `first` to `last` (exclusive); see `ahead`."""
        return ahead(self.batch, self._recipe.data.makers, first, last)


def ahead(batch: Callable[[int], Batch], makers: int, first: int, last: int) -> Iterator[Batch]:
    """The batches of steps `first` to `last` (exclusive), made in background threads while earlier ones train.

    One maker beside the training thread is faster on two shared cores than taking turns on two threads.

    Yields:
        Batches, in order.
    """
    with ThreadPoolExecutor(makers, thread_name_prefix="feed") as pool:
        coming = deque(pool.submit(batch, step) for step in range(first, min(first + makers, last)))
        for step in range(first, last):
            made = coming.popleft().result()
            if step + makers < last:
                coming.append(pool.submit(batch, step + makers))
            yield made
