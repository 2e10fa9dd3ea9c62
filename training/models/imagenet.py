"""ImageNet's classes by name, and how often a network finds them on photos in folders that are named by class."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from training.data.decode import Geometry, decode, square
from training.data.read import read_bytes
from training.data.walk import photo_files
from training.errors import DataError, Unreadable
from training.models.packages import file_in
from training.models.served import normalised

#: Number of classes, in the order of their WordNet ids.
CLASSES: Final = 1000
#: A WordNet id, perhaps with the class's name after it.
_WORDNET: Final = re.compile(r"(n\d{8})(?:\W|_|$)")
_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Labelled:
    """Photos with the classes that their folder's name stands for, and how many photos other folders hold, by name."""

    photos: tuple[tuple[Path, frozenset[int]], ...]
    others: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of the readable photos a network's best answer was right for."""

    photos: int
    right: int
    unreadable: tuple[str, ...]

    @property
    def top1(self) -> float:
        """Share from 0 to 1."""
        return self.right / self.photos


def labelled(folder: Path) -> Labelled:
    """The photos below a folder whose nearest folder with a class's name or WordNet id says what they show.

    Names count in any case, with any separators. Two classes share a name (cardigan: dog, jacket): either is right.

    Raises:
        DataError: No such folder, or no photo in a folder of a class.
        ToolMissing: Folders are named by WordNet id, whose list timm holds, and it is not installed.
    """
    names, found, others = _by_name(), [], Counter[str]()
    wordnet: dict[str, int] = {}
    for path in photo_files(folder):
        parents = path.relative_to(folder).parts[-2::-1] or (folder.name,)
        if not wordnet and any(_WORDNET.match(name) for name in parents):
            wordnet = _by_wordnet()
        classes = (_class_of(name, names, wordnet) for name in parents)
        one = next((known for known in classes if known), None)
        if one:
            found.append((path, one))
        else:
            others[parents[0]] += 1
    if not found:
        seen = ", ".join(sorted(others)[:5]) or "no photo at all"
        raise DataError(
            f"no folder in {folder} is named like a class of ImageNet (goldfish, Granny Smith, n01443537): {seen}"
        )
    return Labelled(tuple(found), dict(others))


def accuracy(
    net: nn.Module,
    px: int,
    photos: Sequence[tuple[Path, frozenset[int]]],
    on_done: Callable[[int], None] = lambda _count: None,
) -> Accuracy:
    """How often a network's best of `CLASSES` is right, on photos as they are served: short side `px`, centre square.

    Args:
        net: Normalised [N, 3, px, px] to logits [N, CLASSES].
        px: Side of the input.
        photos: With the classes that are right.
        on_done: Called with the number of photos of each finished batch.

    Raises:
        DataError: No photo can be read.
    """
    right, count, unreadable = 0, 0, []
    for start in range(0, len(photos), _BATCH):
        part = photos[start : start + _BATCH]
        read = list(_pixels([path for path, _ in part], px))
        unreadable += [one for one in read if isinstance(one, str)]
        pairs = [(one, classes) for one, (_, classes) in zip(read, part, strict=True) if isinstance(one, Tensor)]
        if pairs:
            with torch.no_grad():
                best = net(normalised(torch.stack([one for one, _ in pairs]), torch.device("cpu"))).argmax(1).tolist()
            right += sum(answer in classes for answer, (_, classes) in zip(best, pairs, strict=True))
            count += len(pairs)
        on_done(len(part))
    if not count:
        raise DataError(f"none of {len(photos)} photos can be read: {unreadable[0] if unreadable else ''}")
    return Accuracy(count, right, tuple(unreadable))


def _pixels(paths: Sequence[Path], px: int) -> Iterator[Tensor | str]:
    """The photos as they are served.

    Yields:
        uint8 [3, px, px] of each, or why it cannot be read.
    """
    for path in paths:
        try:
            made = square(decode(read_bytes(str(path)), px), Geometry(px, px))
        except Unreadable as error:
            yield f"{path}: {error}"
        else:
            yield torch.from_numpy(made).permute(2, 0, 1)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", name).partition(",")[0]).strip().casefold()


def _by_name() -> dict[str, frozenset[int]]:
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415 - see networks

    found: defaultdict[str, set[int]] = defaultdict(set)
    for index, name in enumerate(ResNet18_Weights.DEFAULT.meta["categories"]):
        found[_plain(name)].add(index)
    return {name: frozenset(indices) for name, indices in found.items()}


def _by_wordnet() -> dict[str, int]:
    listed = file_in("timm", "imagenet_synsets.txt")
    if listed is None:
        raise DataError("this timm has no imagenet_synsets.txt: name the folders by class, such as goldfish")
    return {name: index for index, name in enumerate(listed.read_text().split())}


def _class_of(name: str, names: Mapping[str, frozenset[int]], wordnet: Mapping[str, int]) -> frozenset[int] | None:
    given = _WORDNET.match(name)
    if given:
        return frozenset({wordnet[given[1]]}) if given[1] in wordnet else None
    return names.get(_plain(name))
