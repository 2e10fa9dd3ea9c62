"""What the link of the event loop does where no server answers."""

import asyncio
from weakref import ref

import pytest
import redis

from consumer.redis.async_link import AsyncLink

NOBODY = "redis://127.0.0.1:1/0"


class Body:
    """Stands for a photo's bytes."""


async def test_a_failure_keeps_nothing_of_its_callers_alive() -> None:
    link = AsyncLink(NOBODY, 5.0, cluster=False)

    async def attempt() -> ref[Body]:
        body = Body()
        with pytest.raises(redis.ConnectionError):
            await link.run([("GET", "key")])
        return ref(body)

    body = await attempt()
    # The turn of the loop that brought the answer holds it.
    await asyncio.sleep(0)
    assert body() is None
    await link.aclose()
