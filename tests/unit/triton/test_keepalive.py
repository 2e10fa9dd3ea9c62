import asyncio

import pytest

from consumer.triton import inference
from consumer.triton.inference import TritonClient
from tests.fake_triton import FakeTriton, serving

#: Of a client's pings in the test; the server has gRPC's own limits, as Triton has.
PING_MS = 100
#: gRPC ends a connection at the third ping that it does not allow.
STRIKES = 3


async def test_a_connection_on_which_nothing_is_asked_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without its bound, what a client sends in some minutes comes at once.
    faster = {"grpc.keepalive_time_ms": PING_MS, "grpc.http2.max_pings_without_data": 0}
    options = dict(inference._CHANNEL) | faster
    monkeypatch.setattr(inference, "_CHANNEL", tuple(options.items()))
    async with serving(FakeTriton()) as fake, TritonClient(fake.url, deadline_s=5) as client:
        await client.ping()
        await asyncio.sleep(10 * STRIKES * PING_MS / 1000)
        assert client.losses == 0
        await client.ping()
