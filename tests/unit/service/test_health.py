"""What a service that is not ready waits for."""

from dataclasses import dataclass

import pytest

from consumer.service.health import waiting_for


@dataclass(frozen=True)
class Source:
    ready: bool


@pytest.mark.parametrize(
    ("lost", "sources", "complaint", "stopping", "expected"),
    [
        (("triton",), [], None, False, ["triton", "assignment"]),
        ((), [Source(True), Source(True)], None, False, []),
        ((), [Source(True)], None, False, []),
        ((), [Source(False), Source(False)], None, False, ["assignment", "assignment of retries"]),
        (
            ("redis",),
            [Source(True), Source(False)],
            "dead",
            True,
            ["redis", "assignment of retries", "dead", "stopping"],
        ),
    ],
)
def test_every_thing_that_is_waited_for_is_named(
    lost: tuple[str, ...], sources: list[Source], complaint: str | None, stopping: bool, expected: list[str]
) -> None:
    assert waiting_for(lost, sources, complaint, stopping=stopping) == expected
