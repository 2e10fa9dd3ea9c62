"""Runs the study: features of every network, the heads on them, fine-tuning, pictures from outside."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from rich.console import Console
from sklearn.pipeline import Pipeline

from training.data.photos import TRAIN, VAL
from training.errors import RecipeError
from training.heads.features import Backbone, backbone, extract
from training.heads.graph import probability_graph
from training.models.networks import natural_px
from training.progress import task
from training.recipes.recipe import Model
from training.runs import checkpoint
from training.statistics import Ints
from training.studies.backbones import INCEPTION_RESNET_V2, INCEPTION_V3, RESNET50, XCEPTION
from training.studies.bottleneck import finetune
from training.studies.bottleneck.data import Breeds, Way, read
from training.studies.bottleneck.heads import MEMBERS, Sides, Worth, bagged, head, over_seeds
from training.studies.bottleneck.outside import Guess, Reader, flag_limit, guesses
from training.studies.bottleneck.report import Finding, Network, card, report
from training.studies.fit import Fitted, device_here, fit
from training.studies.study import Options, Result, settings_of

_BOTTLENECK: Final = tuple(str(net.arch) for net in (INCEPTION_V3, INCEPTION_RESNET_V2, XCEPTION))


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    networks: tuple[str, ...] = _BOTTLENECK
    fine_tuned: tuple[str, ...] = (*_BOTTLENECK, str(RESNET50.arch))
    #: Side of the square that networks see; 0: what each was designed for.
    px: int = 0
    batch: int = 128
    seeds: int = 5
    members: int = MEMBERS
    epochs: int = 100
    #: "all" moves every weight in fine-tuning, "head" the last layer only.
    trainable: str = "all"
    #: At most so many photos, each class by its share; 0: all.
    most_photos: int = 0
    #: Folder of pictures from elsewhere; the data's own folder `outside` by default.
    outside: str = ""
    workers: int = 2


_QUICK: Final[dict[str, Any]] = {
    "networks": ("resnet10-w8", "resnet10-w16"),
    "fine_tuned": ("resnet10-w8",),
    "px": 48,
    "members": 4,
    "epochs": 2,
}


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: A setting or a network that does not exist.
        DataError: The photos cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = settings_of(Settings(), _QUICK, options)
    if settings.trainable not in {"all", "head"} or not settings.networks or settings.seeds < 2:
        raise RecipeError("trainable is all or head; networks must not be empty; seeds are 2 or more")
    way = Way(options.seed, settings.workers, settings.most_photos, options.made, options.as_published)
    breeds = read(options.data, way, console)
    folder = options.cache / "bottleneck"
    folder.mkdir(parents=True, exist_ok=True)
    networks = [_network(arch, breeds, settings, options, console) for arch in settings.networks]
    best = min(networks, key=lambda network: np.mean([worth.val_loss for worth in network.bags]))
    fitted, reader = _reader(best.source, breeds, settings, options)
    tuned = {arch: _tuned(arch, breeds, settings, options, console) for arch in settings.fine_tuned}
    found = Finding(breeds, tuple(networks), best, tuned, tuple(_guesses(reader, settings, options)), reader.limit)
    (folder / "head.onnx").write_bytes(
        probability_graph(fitted, best.source.width).SerializeToString(deterministic=True)
    )
    checkpoint.write_text(folder / "card.md", card(found))
    return report(found, settings.trainable)


def model_of(arch: str, options: Options, trainable: Literal["all", "head"] = "all") -> Model:
    """A network with the weights that the options name for it, or the library's own, or none."""
    weights = options.weights.get(arch)
    return Model(arch=arch, weights=weights, pretrained=options.pretrained and weights is None, trainable=trainable)


def _rows(breeds: Breeds, split: str) -> Ints:
    return np.array([index for index, photo in enumerate(breeds.photos) if photo.split == split], np.int64)


def sides_of(source: Backbone, breeds: Breeds, settings: Settings, cache: Path, console: Console) -> Sides:
    """Features of both sides, from the network's cache."""
    with task(console, f"features of {source.arch}", len(breeds.photos)) as done:
        every = extract(source, breeds.photos, cache, batch=settings.batch, workers=settings.workers, on_done=done)
    train, val = _rows(breeds, TRAIN), _rows(breeds, VAL)
    return Sides(every[train], breeds.labels_of(TRAIN), every[val], breeds.labels_of(VAL))


def _network(arch: str, breeds: Breeds, settings: Settings, options: Options, console: Console) -> Network:
    source = backbone(model_of(arch, options), options.seed, settings.px or None, device_here())
    sides = sides_of(source, breeds, settings, options.cache, console)
    seeds = range(options.seed, options.seed + settings.seeds)
    bags = over_seeds(sides, seeds, settings.members, bag=True)
    singles = over_seeds(sides, seeds, settings.members, bag=False)
    said = _mean(bags)
    console.print(f"{arch}: val log loss {said.val_loss:.3f}, accuracy {said.val_accuracy:.3f}", highlight=False)
    return Network(source, tuple(bags), tuple(singles))


def _mean(found: list[Worth]) -> Worth:
    names = Worth.__slots__
    return Worth(*(float(np.mean([getattr(worth, name) for worth in found])) for name in names))


def _reader(source: Backbone, breeds: Breeds, settings: Settings, options: Options) -> tuple[Pipeline, Reader]:
    """The head of the first seed on the best network, from its cache."""
    sides = sides_of(source, breeds, settings, options.cache, Console(quiet=True))
    classifier = bagged(len(sides.train_labels), options.seed, settings.members)
    fitted = head(sides.train, classifier).fit(sides.train, sides.train_labels)
    return fitted, Reader(source, fitted, breeds.labels, flag_limit(fitted.predict_proba(sides.val)))


def _tuned(arch: str, breeds: Breeds, settings: Settings, options: Options, console: Console) -> Fitted:
    px = settings.px or natural_px(arch)
    sides = finetune.pictures(breeds, px, options.cache, settings.workers)
    model = model_of(arch, options, "head" if settings.trainable == "head" else "all")
    net = finetune.network(model, len(breeds.labels), options.seed)
    plan = finetune.plan_of(settings.epochs, settings.batch, options.seed, arch.replace("/", "-"))
    return fit(net, sides, replace(plan, device=device_here()), options.cache / "bottleneck", console)


def _guesses(reader: Reader, settings: Settings, options: Options) -> list[Guess]:
    folder = Path(settings.outside) if settings.outside else options.data / "outside"
    return guesses(reader, folder) if folder.is_dir() or settings.outside else []
