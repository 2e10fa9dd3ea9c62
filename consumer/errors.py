"""The three families of failure that decide the outcome of a photo.

Foreign exceptions are mapped to these where they enter (fetch, prepare, inference, store, publish), so that
`pipeline.py` decides by family and never by library. Anything else that reaches it is a bug.
"""

from typing import Final, Literal, get_args

#: Why a photo is rejected. A reason is a metric label and a header of the dead letter: add some, never rename one.
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
    "redis_key",
    "result_refused",
    "internal",
]

#: Why an attempt failed that may succeed later; after the last attempt, the reason of the dead letter.
TransientReason = Literal[
    "dns_failed",
    "connect_failed",
    "fetch_timeout",
    "short_body",
    "malformed_response",
    "http_5xx",
    "inference_failed",
    "host_exhausted",
]

Reason = Literal[PermanentReason, TransientReason]

#: The external systems that are waited for during an outage.
Dependency = Literal["kafka", "redis", "triton", "photos"]

REASONS: Final[tuple[str, ...]] = tuple(
    reason for group in (PermanentReason, TransientReason) for reason in get_args(group)
)


class TaggerError(Exception):
    """Base of every error that the service raises."""


class PhotoRejected(TaggerError):
    """This photo can never be tagged: it becomes a dead letter with this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


class Retryable(TaggerError):
    """A transient failure: the attempt is repeated within a budget, then the photo is rejected with this reason.

    `origin` (`https://host:443`, `s3://bucket`) is given where its cause may be the origin, so that other photos of it
    would fail too, and None where the failure concerns this photo alone. `retry_after_s` is the wait that the
    origin asked for.
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
    """Drops the traceback and the causes of a failure: their frames hold the bytes of a photo (20 MB at most).

    A failure is kept through waits and until it is published, and these bytes are no longer in the budget.
    """
    failure.__traceback__ = failure.__context__ = failure.__cause__ = None


class DependencyDown(TaggerError):
    """A system that every photo needs does not answer; it is waited for without limit.

    `part` names what of it is missing, where the rest may answer as always: a topic.
    """

    def __init__(self, dependency: Dependency, detail: str, *, part: str = "") -> None:
        super().__init__(f"{dependency}: {detail}")
        self.dependency: Dependency = dependency
        self.detail = detail
        self.part = part


class TopicMissing(DependencyDown):
    """The cluster has no such topic, or this user may not see it."""


class RecordRefused(TaggerError):
    """Kafka refuses this record for good (its size, a policy of the topic): waiting for it does not help."""


class PhotoHostDown(DependencyDown):
    """The host of this photo is down: the photo waits, in place or in the retry topic, and uses up no attempt."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__("photos", detail)
        self.reason: Reason = reason


class ContractMismatch(TaggerError):
    """The served models do not fit this service or each other; it refuses to start and names the difference."""


class SettingsError(TaggerError):
    """The settings are wrong; the message names the setting and its valid values.

    Where that came out later than at their loading, `setting` is its name.
    """

    def __init__(self, detail: str, *, setting: str = "") -> None:
        super().__init__(f"{setting}: {detail}" if setting else detail)
        self.setting = setting
        self.detail = detail


class NotFound(TaggerError):
    """What a command names is not there, or lacks what the command needs."""


class Refused(TaggerError):
    """What a command asks for would hurt the service; nothing was changed."""


class DecodeHangs(TaggerError):
    """A decode runs far beyond its timeout; a thread cannot be stopped, so the process exits to be replaced."""


class SourceFailed(TaggerError):
    """The Kafka consumer cannot continue (refused credentials, unknown topic, fenced); the service stops."""


class ProducerFailed(TaggerError):
    """The Kafka producer fails again and again for good (a refused idempotent write, a bug); the service stops."""
