"""What a failure of Triton means: the server is down, it is overloaded, or it blames this request."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from grpc.aio import AioRpcError

from consumer.errors import DependencyDown, PhotoRejected, Retryable

#: Statuses that concern the server, whatever the photo is: it is away, another program answers on its port, a model or
#: version is not loaded (`NOT_FOUND`, also for a moment while versions are swapped), or it refuses this client.
_DOWN: Final = frozenset(
    {
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "NOT_FOUND",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "UNIMPLEMENTED",
    }
)
#: What else to say of a connection that failed with this text.
_ADVICE: Final = {
    "CERTIFICATE_VERIFY_FAILED": "Triton's certificate is signed by none of triton.tls_ca, or expired",
    "Hostname Verification Check failed": "Triton's certificate is of another name",
    "WRONG_VERSION_NUMBER": "Triton does not speak TLS there: triton.tls=false",
    "Failed to create security handshaker": "triton.tls_key is not the key of triton.tls_certificate, or is damaged",
    "Socket closed": "perhaps Triton wants TLS (triton.tls), or a certificate of this client (triton.tls_certificate)",
}
_NOT_CONNECTED: Final = "failed to connect"
#: Of a full queue of Triton, with status UNAVAILABLE.
_QUEUE_WORDS: Final = ("maximum queue size", "timeout expired")


class Overloaded(DependencyDown):
    """Triton has too many requests, or did not answer one in time: fewer must be sent at once."""


class Unanswered(Overloaded):
    """Triton did not answer in time: it has too much to do, or hangs, or works on this photo for too long."""


@contextmanager
def outages(url: str) -> Iterator[None]:
    """Maps every failure of a call that is about no photo.

    Raises:
        DependencyDown: Triton does not answer as it should.
    """
    try:
        yield
    except AioRpcError as error:
        raise DependencyDown("triton", words(url, error)) from None


@contextmanager
def inference_failures(url: str) -> Iterator[None]:
    """Maps the failures of an inference by gRPC status.

    Raises:
        DependencyDown: Triton is unavailable.
        Overloaded: it has too much to do.
        Unanswered: it did not answer in time.
        PhotoRejected: `inference_rejected`, it refuses this request; whether the photo is to blame is not known yet.
        Retryable: `inference_failed`, the model failed; likewise.
    """
    try:
        yield
    except AioRpcError as error:
        status, detail = _status(error), words(url, error)
        if status == "DEADLINE_EXCEEDED":
            raise Unanswered("triton", detail) from None
        if status == "RESOURCE_EXHAUSTED" or (status in _DOWN and any(word in detail for word in _QUEUE_WORDS)):
            raise Overloaded("triton", detail) from None
        if status in _DOWN:
            raise DependencyDown("triton", detail) from None
        if status == "INVALID_ARGUMENT":
            raise PhotoRejected("inference_rejected", detail) from None
        raise Retryable("inference_failed", detail) from None


def _status(error: AioRpcError) -> str:
    return str(error.code().name)


def words(url: str, error: AioRpcError) -> str:
    """Who failed, with which status, what it says, and what that may mean of a connection that was never made."""
    text = f"{url}: {_status(error)}: {error.details()}"
    advice = [told for sign, told in _ADVICE.items() if sign in text] if _NOT_CONNECTED in text else []
    return "; ".join([text, *advice])
