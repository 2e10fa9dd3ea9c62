"""Why a photo was refused, in plain words."""

from collections.abc import Mapping
from typing import Final, cast

from consumer.errors import Reason

_IN_WORDS: Final[Mapping[Reason, str]] = {
    "invalid_event": "The event is not valid: a required field is missing or has the wrong type.",
    "url_not_allowed": "The address of the photo is of a kind that may not be fetched.",
    "address_not_allowed": "The photo lies at a private address that may not be fetched from.",
    "too_many_redirects": "The photo host redirected too often.",
    "http_4xx": "The photo host says that there is no such photo.",
    "too_many_bytes": "The file is larger than a photo may be.",
    "content_encoding": "The photo host sent the photo in an encoding that is not accepted.",
    "content_mismatch": "The bytes are not those that the event announced.",
    "empty_body": "The photo host sent an empty file.",
    "unsupported_format": "The file is not a photo in a format that is supported.",
    "too_many_pixels": "The photo would unpack to too many pixels: a decompression bomb.",
    "too_many_scans": "The photo has too many passes to decode: a decompression bomb.",
    "image_too_small": "The photo is too small to be judged.",
    "corrupt_image": "The photo is damaged: its data breaks off or cannot be decoded.",
    "decode_timeout": "The photo took too long to decode.",
    "inference_rejected": "The models refused the photo.",
    "redis_key": "The place of the photo's tags in Redis is taken by data of another program.",
    "result_refused": "The tags were written, but Kafka refuses the record that announces them.",
    "internal": "A fault in the service, not in the photo; its log has the details.",
    "dns_failed": "The name of the photo host could not be resolved, again and again.",
    "connect_failed": "The photo host could not be reached, again and again.",
    "fetch_timeout": "The photo host was too slow, again and again.",
    "short_body": "The photo host broke off while it sent the photo, again and again.",
    "malformed_response": "The photo host did not speak HTTP properly, again and again.",
    "http_5xx": "The photo host failed with an error of its own, again and again.",
    "inference_failed": "The models failed on the photo, again and again.",
    "host_exhausted": "The service had too little memory for this photo, again and again, though enough for others.",
}


def in_words(reason: str) -> str:
    """One sentence for a reader who does not know the service; a general one for a reason that is not known here."""
    words: str | None = _IN_WORDS.get(cast("Reason", reason))
    return words or "The photo was refused for a reason that this page does not know."
