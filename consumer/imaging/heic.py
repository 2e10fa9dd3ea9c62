"""HEIC and HEIF, the optional extra: off unless it is installed and allowed.

The wheel of pillow-heif carries x265 and is therefore under the GPLv2, unlike this project; who installs it decides.
"""

import io
from typing import Final

from PIL import ImageFile

from consumer.errors import PhotoRejected

#: What makes a service read HEIC.
HOW: Final = "HEIC is read with the extra photo-tagger[heic] (pillow-heif, GPLv2) and the setting prepare.heic = true"


def open_heif(body: io.BytesIO) -> ImageFile.ImageFile:
    """The image, its header read; it is turned as the file says, and reported upright.

    Raises:
        PhotoRejected: `unsupported_format`: not installed; the detail says how to change that.
    """
    try:
        from pillow_heif import HeifImageFile, options  # noqa: PLC0415 - an extra that most installations lack
    except ImportError:
        raise PhotoRejected("unsupported_format", f"pillow-heif is not installed; {HOW}") from None
    # One photo is one thread here: others decode beside it.
    options.DECODE_THREADS = 1
    options.THUMBNAILS = False
    image: ImageFile.ImageFile = HeifImageFile(body)
    return image
