"""What a service that is not ready waits for."""

from dataclasses import dataclass

import aiohttp
import pytest

from consumer.service.health import Readiness, serve_health, waiting_for


@dataclass(frozen=True)
class Source:
    ready: bool


@pytest.mark.parametrize(
    ("lost", "sources", "complaints", "stopping", "expected"),
    [
        (("triton",), [], [], False, ["triton", "assignment"]),
        ((), [Source(True), Source(True)], [None, None], False, []),
        ((), [Source(True)], [None, "stuck"], False, ["stuck"]),
        (("kafka: x", "kafka: x"), [Source(True)], ["kafka: x"], False, ["kafka: x"]),
        ((), [Source(False), Source(False)], [], False, ["assignment", "assignment of retries"]),
        (
            ("redis",),
            [Source(True), Source(False)],
            ["dead", "stuck"],
            True,
            ["redis", "assignment of retries", "dead", "stuck", "stopping"],
        ),
    ],
)
def test_every_thing_that_is_waited_for_is_named(
    lost: tuple[str, ...], sources: list[Source], complaints: list[str | None], stopping: bool, expected: list[str]
) -> None:
    assert waiting_for(lost, sources, complaints, stopping=stopping) == expected


HEAD = {"topic": "photo-uploads", "partition": 3, "offset": 42, "age_s": 700.5, "waits_for": "redis"}


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (Readiness([]), 200),
        (Readiness([], HEAD), 200),
        (Readiness(["redis"], HEAD), 503),
    ],
)
async def test_ready_names_what_is_waited_for_and_the_oldest_record_in_both_cases(
    found: Readiness, status: int
) -> None:
    async def readiness() -> Readiness:
        return found

    async def metrics() -> bytes:
        return b""

    endpoint = serve_health("127.0.0.1", 0, live=lambda: True, readiness=readiness, metrics=metrics)
    async with endpoint as port, aiohttp.request("GET", f"http://127.0.0.1:{port}/ready") as answer:
        assert answer.status == status
        assert await answer.json() == {
            "ready": status == 200,
            "waiting_for": found.waiting_for,
            "oldest": found.oldest,
        }
