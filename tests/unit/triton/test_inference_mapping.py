import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from consumer.errors import DependencyDown, PhotoRejected, Retryable, TaggerError
from consumer.triton.failures import Overloaded, inference_failures, outages

URL = "triton:8001"
SERVER_STATUSES = [
    *("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"),
    *("UNAUTHENTICATED", "PERMISSION_DENIED"),
]


def answered(status: str, message: str = "said so") -> AioRpcError:
    return AioRpcError(StatusCode[status], Metadata(), Metadata(), message)


def meaning(status: str, message: str = "said so") -> TaggerError:
    with pytest.raises(TaggerError) as caught, inference_failures(URL):
        raise answered(status, message)
    return caught.value


@pytest.mark.parametrize("status", SERVER_STATUSES)
def test_a_server_that_does_not_answer_now_is_an_outage(status: str) -> None:
    error = meaning(status)
    assert isinstance(error, DependencyDown)
    assert error.dependency == "triton"


def test_a_request_that_is_refused_for_good_rejects_the_photo() -> None:
    error = meaning("INVALID_ARGUMENT")
    assert isinstance(error, PhotoRejected)
    assert error.reason == "inference_rejected"


@pytest.mark.parametrize("status", ["INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS"])
def test_a_model_that_fails_is_asked_again(status: str) -> None:
    error = meaning(status)
    assert isinstance(error, Retryable)
    assert error.reason == "inference_failed"


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INVALID_ARGUMENT", "INTERNAL"])
def test_the_detail_says_who_answered_what(status: str) -> None:
    assert str(meaning(status, "no GPU")).endswith(f"{URL}: {status}: no GPU")


def test_an_answer_passes_through() -> None:
    with inference_failures(URL):
        answer = 5
    assert answer == 5


def test_other_failures_are_bugs_and_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError), inference_failures(URL):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        ("RESOURCE_EXHAUSTED", "too many streams"),
        ("UNAVAILABLE", "Exceeds maximum queue size"),
        ("UNAVAILABLE", "Request timeout expired"),
    ],
)
def test_a_server_with_too_much_to_do_is_told_from_one_that_is_away(status: str, message: str) -> None:
    assert isinstance(meaning(status, message), Overloaded)
    assert not isinstance(meaning("UNAVAILABLE", "connection refused"), Overloaded)


@pytest.mark.parametrize("status", [*SERVER_STATUSES, "INVALID_ARGUMENT", "INTERNAL"])
def test_a_call_about_no_photo_blames_no_photo(status: str) -> None:
    with pytest.raises(DependencyDown), outages(URL):
        raise answered(status)
