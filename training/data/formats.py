"""The image formats that the service reads: photos of others are not trained on, since the service will not see them.

The service publishes them as data (`photo-tagger schemas`); this package carries a copy, which a test keeps equal.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class ImageFormats:
    """What the service says of image formats."""

    #: Pillow's names of those that every service reads.
    read: tuple[str, ...]
    #: What names of photos end with, in lower case; also of photos in formats that are not read.
    suffixes: frozenset[str]


@cache
def image_formats() -> ImageFormats:
    """The published formats."""
    published = json.loads(files("training.data").joinpath("image-formats.json").read_bytes())
    suffixes = [suffix for each in published["formats"] for suffix in each["suffixes"]]
    return ImageFormats(
        tuple(each["name"] for each in published["formats"] if each["by_default"]),
        frozenset([*suffixes, *published["unread_suffixes"]]),
    )
