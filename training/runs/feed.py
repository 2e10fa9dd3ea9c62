"""Batches of a run: what is decoded once, what is composed for every step, and how both become pixels and targets.

A batch depends on the recipe's seed, the step and the process alone, so a resumed run sees what it would have seen.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from training.data.backgrounds import Split
from training.data.decode import Geometry
from training.data.made import brand_composer, marks_name
from training.data.manifest import Manifest
from training.data.photos import NO_LOGO, TRAIN, VAL, Photo
from training.data.pixels import cached_stack, stack
from training.data.sets import BrandComposer
from training.progress import task
from training.recipes.recipe import ComposedSource, Data, Recipe
from training.runs.augment import mixed, recoloured, scrambled, views, worn
from training.runs.distributed import Process
from training.runs.objective import level_distribution
from training.runs.sampling import SamplingOrder

#: Of a step: float32 photos [N, 3, S, S] in 0..1 and targets [N, outputs] that sum to 1.
Batch = tuple[Tensor, Tensor]
Pick = Callable[[list[int]], Tensor]


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """A held-out split in memory: uint8 [N, 3, S, S], and the targets as the loss takes them."""

    images: Tensor
    targets: Tensor


def _composer(source: ComposedSource, px: int) -> BrandComposer:
    return brand_composer(Split.TRAIN, marks_name(source.marks, source.brands), source.scenes, px)


def targets_of(photos: Sequence[Photo], labels: tuple[str, ...]) -> Tensor:
    """float32 [N, outputs]: one-hot brands, or distributions over levels."""
    if not photos:
        return torch.zeros((0, len(labels)))
    if photos[0].rating is not None:
        return torch.tensor([level_distribution(photo.rating or 0.0, photo.votes) for photo in photos])
    index = torch.tensor([labels.index(photo.label or NO_LOGO) for photo in photos])
    return functional.one_hot(index, len(labels)).float()


def pixels_of(photos: Sequence[Photo], geometry: Geometry, data: Data, console: Console, what: str) -> Tensor:
    """All pixels of photos: from the cache, or decoded now."""
    if not photos:
        return torch.zeros((0, 3, geometry.input_size, geometry.input_size), dtype=torch.uint8)
    with task(console, what, len(photos)) as done:
        if data.cache is None:
            return stack(photos, geometry, data.workers, done)
        return cached_stack(photos, geometry, data.workers, data.cache, done)


def validation_set(recipe: Recipe, manifest: Manifest, console: Console) -> ValidationSet:
    """The val split as the service would see it."""
    photos = manifest.of(VAL)
    geometry = Geometry(recipe.model.input_px, recipe.model.input_px)
    return ValidationSet(
        pixels_of(photos, geometry, recipe.data, console, "validation photos"), targets_of(photos, manifest.labels)
    )


class Feed:
    """Makes the training batches of one process."""

    def __init__(self, recipe: Recipe, manifest: Manifest, process: Process, console: Console) -> None:
        self._recipe = recipe
        self._process = process
        self._labels = manifest.labels
        photos = manifest.of(TRAIN)
        self.targets = targets_of(photos, manifest.labels)
        composed = [source for source in recipe.data.sources if isinstance(source, ComposedSource)]
        with console.status("drawing scenes"):
            self._composers = [
                (_composer(source, recipe.model.input_px).to(process.device), source.share) for source in composed
            ]
        drawn = sum(round(recipe.train.batch * share) for _, share in self._composers)
        self._listed = max(0, recipe.train.batch - drawn) if photos else 0
        self._pick = self._picker(photos, console)
        self.order = SamplingOrder(
            [int(target.argmax()) for target in self.targets] if photos else [0],
            max(1, self._listed),
            recipe.seed,
            balanced=recipe.train.sampler == "balanced",
            reserved=self._reserved(),
        )

    def _reserved(self) -> tuple[int, float] | None:
        share = self._recipe.train.no_logo_share
        return None if share is None or self._recipe.task != "brand" else (len(self._labels) - 1, share)

    def _picker(self, photos: list[Photo], console: Console) -> Pick:
        """How the stored squares of a step's photos are got: from memory, or decoded for the step."""
        data = self._recipe.data
        geometry = Geometry(data.stored_px, data.stored_px)
        if data.cache is None:
            return lambda indices: stack([photos[index] for index in indices], geometry, data.workers)
        bank = pixels_of(photos, geometry, data, console, "training photos")
        return lambda indices: bank[torch.tensor(indices)]

    def label_counts(self) -> Tensor:
        """Training photos of each label, as far as they are listed; all ones for composed photos alone."""
        return self.targets.sum(0) if len(self.targets) else torch.ones(len(self._labels))

    def px(self, step: int) -> int:
        """The side of a step's photos."""
        train = self._recipe.train
        if train.small_px is not None and step < round(train.steps * train.small_share):
            return train.small_px
        return self._recipe.model.input_px

    def batch(self, step: int) -> Batch:
        """This process's photos of a step, counted from 0 over all stages."""
        recipe, process, px = self._recipe, self._process, self.px(step)
        rng = np.random.default_rng((recipe.seed, step, process.rank))
        parts: list[Batch] = []
        if self._listed:
            indices = self.order.indices(step)[process.rank :: process.world]
            photos = views(rng, self._pick(indices), recipe.augment, px)
            photos = worn(rng, recoloured(rng, photos, recipe.augment), recipe.augment)
            targets = self.targets[torch.tensor(indices)].clone()
            if recipe.augment.scramble and recipe.task == "brand":
                photos, targets = scrambled(rng, photos, targets, recipe.augment.scramble, len(self._labels) - 1)
            parts.append((photos.to(process.device), targets.to(process.device)))
        for composer, share in self._composers:
            count = round(recipe.train.batch * share) // process.world
            if count:
                with process.device:
                    parts.append(self._composed(rng, replace(composer, px=px), count))
        photos, targets = (torch.cat([part[index] for part in parts]) for index in (0, 1))
        return mixed(rng, photos, targets, recipe.augment)

    def _composed(self, rng: np.random.Generator, composer: BrandComposer, count: int) -> Batch:
        made = composer.batch(rng, count)
        places = torch.tensor(
            [
                self._labels.index(n) if n in self._labels else len(self._labels) - 1
                for n in (*composer.brands.names, NO_LOGO)
            ]
        )
        return made.images.float() / 255, functional.one_hot(places[made.labels], len(self._labels)).float()

    def ahead(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of steps `first` to `last` (exclusive), made by other threads while the ones before train.

        One thread makes photos and one trains: on two shared cores that is faster than both in turn on two threads.

        Yields:
            Batches, in order.
        """
        makers = self._recipe.data.makers
        with ThreadPoolExecutor(makers, thread_name_prefix="feed") as pool:
            coming = deque(pool.submit(self.batch, step) for step in range(first, min(first + makers, last)))
            for step in range(first, last):
                batch = coming.popleft().result()
                if step + makers < last:
                    coming.append(pool.submit(self.batch, step + makers))
                yield batch
