"""What a person should know of a run's photos before it trains on them."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from training.data.manifest import Manifest
from training.data.photos import LEVELS, NO_LOGO, SPLITS, TEST, TRAIN, VAL
from training.errors import DataError

#: With fewer photos to train on, a brand is hardly learnt.
_FEW: Final = 5
#: With fewer photos a figure on test, or a threshold chosen on val, is hardly more than a guess.
_LEAST_JUDGED: Final = 20
#: With fewer rated photos to train on, a model hardly learns what people mean.
_LEAST_RATED: Final = 100
#: A share of all photos that makes the data one-sided.
_MOST: Final = 0.9
#: Classes that one line names.
_NAMED: Final = 10


def check_names(labels: Iterable[str]) -> None:
    """Checks that no two labels differ only in case or spaces.

    Raises:
        DataError: Names them.
    """
    known: dict[str, str] = {}
    for label in sorted(labels):
        other = known.setdefault("".join(label.casefold().split()), label)
        if other != label:
            raise DataError(
                f"the brands {other} and {label} differ only in case or spaces: give their folders one name"
            )


def doubts(manifest: Manifest, listed: Collection[str], generated: Collection[str]) -> Iterator[str]:
    """Classes of brand photos that cannot be learnt or judged.

    Args:
        manifest: The photos with their splits.
        listed: Labels of all photos that the sources list.
        generated: Labels of photos that are composed anew for every batch.

    Yields:
        One sentence each.

    Raises:
        DataError: All photos are of one class.
    """
    counts = Counter((str(photo.label), photo.split) for photo in manifest.photos)
    labels = {label for label, split in counts if split in SPLITS}
    if len(labels | set(generated)) == 1:
        raise DataError(
            f"all photos are of {min(labels)}: a model needs photos of another brand, or some without any in {NO_LOGO}"
        )
    gone = sorted(set(listed) - labels)
    if gone:
        yield f"no photo is left of {_enumerated(gone)}: all are unreadable or leak"
    if NO_LOGO not in labels | set(generated):
        yield f"no photo is without a brand: the model will see one in every photo; add a folder {NO_LOGO}"
    used = [split for split in SPLITS if manifest.of(split)]
    if TEST not in used:
        yield "no photo to test on"
    yield from _one_sided(Counter(str(photo.label) for photo in manifest.photos if photo.split in SPLITS), "are of")
    few = [
        f"{label} ({', '.join(f'{counts[label, split]} {split}' for split in SPLITS)})"
        for label in sorted(labels - set(generated))
        if counts[label, TRAIN] < _FEW or not all(counts[label, split] for split in used)
    ]
    if few:
        yield f"too few photos to learn a class or to judge it: {_enumerated(few)}"


def rating_doubts(manifest: Manifest) -> Iterator[str]:
    """Why rated photos may be too few, or too much alike, to learn from and to judge by.

    Yields:
        One sentence each.

    Raises:
        DataError: All photos have one rating.
    """
    ratings = [photo.rating for photo in manifest.photos if photo.split in SPLITS and photo.rating is not None]
    if len(set(ratings)) == 1:
        raise DataError(
            f"all {len(ratings)} photos are rated {ratings[0]:g}: a model needs better and worse ones to compare"
        )
    trained = sum(photo.rating is not None for photo in manifest.of(TRAIN))
    if trained < _LEAST_RATED:
        yield f"only {trained} rated photos to train on: a few hundred are a start, some thousands are good"
    if not manifest.of(TEST):
        yield "no photo to test on"
    yield from _small(manifest)
    middle = (LEVELS[0] + LEVELS[-1]) / 2
    sides = Counter("worse" if r < middle else "better" for r in ratings if r != middle)
    yield from _one_sided(sides, f"with another rating than {middle:g} are rated")
    levels = Counter(str(round(rating)) for rating in ratings)
    yield from _one_sided(levels, "are rated about")
    rare = [str(level) for level in LEVELS if levels[str(level)] < _FEW]
    if rare and len(ratings) >= _LEAST_RATED:
        yield f"fewer than {_FEW} photos are rated about {', '.join(rare)}: the model will hardly ever say so"


def _small(manifest: Manifest) -> Iterator[str]:
    for split, purpose in ((VAL, "choose temperature and threshold on"), (TEST, "test on")):
        count = len(manifest.of(split))
        if 0 < count < _LEAST_JUDGED:
            yield f"only {count} photos to {purpose}: such figures are hardly more than guesses"


def _one_sided(counts: Counter[str], what: str) -> Iterator[str]:
    for name, count in counts.most_common(1):
        if count >= _MOST * counts.total():
            yield f"one-sided: {count} of {counts.total()} photos {what} {name}; a model that always says so is right"


def _enumerated(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
