"""The three families of failure that decide what becomes of a photo.

Foreign exceptions are mapped to these where they enter (fetch, prepare, inference, store, publish), so that
`pipeline.py` decides by family and never by library. Anything else that reaches it is a bug.
"""

from typing import Final, Literal, get_args

#: Why a photo is refused for good. A reason is a metric label and a header of the dead letter: add, never rename.
PermanentReason = Literal[
    "invalid_event",
    "url_not_allowed",
    "address_not_allowed",
    "too_many_redirects",
    "http_4xx",
    "too_many_bytes",
    "content_encoding",
    "content_mismatch",
    "empty_body",
    "unsupported_format",
    "too_many_pixels",
    "too_many_scans",
    "image_too_small",
    "corrupt_image",
    "decode_timeout",
    "inference_rejected",
    "internal",
]

#: Why an attempt failed that may succeed later; the reason of the dead letter once the budget is spent.
TransientReason = Literal[
    "dns_failed",
    "connect_failed",
    "fetch_timeout",
    "short_body",
    "malformed_response",
    "http_5xx",
    "inference_failed",
]

Reason = Literal[PermanentReason, TransientReason]

#: The outside systems whose outage is waited for.
Dependency = Literal["kafka", "redis", "triton", "photos"]

REASONS: Final[tuple[str, ...]] = tuple(
    reason for group in (PermanentReason, TransientReason) for reason in get_args(group)
)


class TaggerError(Exception):
    """Root of every failure that this project raises on purpose."""


class PhotoRejected(TaggerError):
    """This photo can never be tagged: it becomes a dead letter with this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


class Retryable(TaggerError):
    """This attempt failed, a later one may not: repeated within a budget, then rejected with this reason.

    `origin` names the place that failed (`https://host:443`, `s3://bucket`) where other photos of it would fail too;
    None where the failure says something of this photo alone. `retry_after_s` is how long the place asked to be left.
    """

    def __init__(
        self, reason: Reason, detail: str, *, origin: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail
        self.origin = origin
        self.retry_after_s = retry_after_s


def forget_frames(failure: TaggerError) -> None:
    """Lets go of where a failure came from: those frames hold the bytes of a photo that are no longer counted.

    A failure is kept while it is waited out or published, and a body may have 20 MB.
    """
    failure.__traceback__ = failure.__context__ = failure.__cause__ = None


class DependencyDown(TaggerError):
    """A system that every photo needs does not answer: not the photo's fault, waited for without end."""

    def __init__(self, dependency: Dependency, detail: str) -> None:
        super().__init__(f"{dependency} is down: {detail}")
        self.dependency: Dependency = dependency
        self.detail = detail


class PhotoHostDown(DependencyDown):
    """The host of this photo is gone, not the photo: it waits, in its place or aside, without using up its tries."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__("photos", detail)
        self.reason: Reason = reason


class ContractMismatch(TaggerError):
    """The served models do not fit this service or each other: it refuses to start and says what differs."""


class SettingsError(TaggerError):
    """The settings are wrong: the message names the setting and what it may be."""


class DecodeHangs(TaggerError):
    """A decode runs on far beyond its limit: a thread cannot be stopped, so the process ends to be replaced."""


class SourceFailed(TaggerError):
    """The Kafka consumer cannot go on (refused credentials, unknown topic, fenced): the service stops."""
