import pytest
from tritonclient.utils import InferenceServerException

from consumer.errors import DependencyDown, PhotoRejected, Retryable, TaggerError
from consumer.triton.failures import Overloaded, inference_failures, outages

URL = "triton:8001"
SERVER_STATUSES = [
    *("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"),
    *("UNAUTHENTICATED", "PERMISSION_DENIED"),
]


def meaning(status: str | None, message: str = "said so") -> TaggerError:
    with pytest.raises(TaggerError) as caught, inference_failures(URL):
        raise InferenceServerException(message, status=status)
    return caught.value


@pytest.mark.parametrize("status", SERVER_STATUSES)
def test_a_server_that_does_not_answer_now_is_an_outage(status: str) -> None:
    error = meaning(f"StatusCode.{status}")
    assert isinstance(error, DependencyDown)
    assert error.dependency == "triton"


def test_a_request_that_is_refused_for_good_rejects_the_photo() -> None:
    error = meaning("StatusCode.INVALID_ARGUMENT")
    assert isinstance(error, PhotoRejected)
    assert error.reason == "inference_rejected"


@pytest.mark.parametrize("status", ["INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS", "a status of the future"])
def test_a_model_that_fails_is_asked_again(status: str) -> None:
    error = meaning(f"StatusCode.{status}")
    assert isinstance(error, Retryable)
    assert error.reason == "inference_failed"


def test_an_error_without_a_status_is_an_outage() -> None:
    assert isinstance(meaning(None), DependencyDown)


@pytest.mark.parametrize("status", ["StatusCode.UNAVAILABLE", "StatusCode.INVALID_ARGUMENT", "StatusCode.INTERNAL"])
def test_the_detail_says_who_answered_what(status: str) -> None:
    assert str(meaning(status, "no GPU")).endswith(f"{URL}: {status.removeprefix('StatusCode.')}: no GPU")


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
    assert isinstance(meaning(f"StatusCode.{status}", message), Overloaded)
    assert not isinstance(meaning("StatusCode.UNAVAILABLE", "connection refused"), Overloaded)


@pytest.mark.parametrize("status", [*SERVER_STATUSES, "INVALID_ARGUMENT", "INTERNAL", None])
def test_a_call_about_no_photo_blames_no_photo(status: str | None) -> None:
    with pytest.raises(DependencyDown), outages(URL):
        raise InferenceServerException("said so", status=status and f"StatusCode.{status}")
