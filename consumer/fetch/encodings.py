"""Which content encodings of an answer mean that its bytes are not those of the photo. Pure."""

import re
from typing import Final

_COMPRESSIONS: Final = re.compile(
    r"\b(gzip|gz|deflate|zlib|compress|br|brotli|zstd|zst|dcb|dcz|sdch|bzip|bzip2|bz2|lzma|xz|lz4|snappy|zip)\b",
    re.ASCII | re.IGNORECASE,
)


def is_compressed(content_encoding: str) -> bool:
    """Whether a header names a compression, by any of its names (`br`, `x-gzip`), alone or in a list.

    Many hosts put something else there, such as a character set or how the photo was uploaded (`utf-8`, `base64`,
    `binary`, `aws-chunked`): as for browsers, that says nothing of the bytes.
    """
    return _COMPRESSIONS.search(content_encoding) is not None
