"""What a person should know of a run's photos before it trains on them."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from training.data.manifest import Manifest
from training.data.photos import NO_LOGO, SPLITS, TEST, TRAIN
from training.errors import DataError

#: With fewer photos to train on, a brand is hardly learnt.
_FEW: Final = 5
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
    """Classes of brand photos that cannot be learnt or judged; nothing about rated photos.

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
    few = [
        f"{label} ({', '.join(f'{counts[label, split]} {split}' for split in SPLITS)})"
        for label in sorted(labels - set(generated))
        if counts[label, TRAIN] < _FEW or not all(counts[label, split] for split in used)
    ]
    if few:
        yield f"too few photos to learn a class or to judge it: {_enumerated(few)}"


def _enumerated(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
