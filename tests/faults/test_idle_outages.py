"""What stops while no photo comes is named all the same, in time: by `/ready` and by the metric."""

import os
import signal
import time

import pytest

from tests.faults.conftest import Server
from tests.harness import World, eventually

#: In which a server that stopped is named; what a busy machine adds is no fault of the service.
NAMED_S = 5.0
BUSY_S = 15.0

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("how", ["killed", "hanging"])
@pytest.mark.parametrize("name", ["redis", "triton", "kafka"])
async def test_a_server_that_stops_while_nothing_comes_is_named_until_it_is_back(
    fragile: World, breakable: dict[str, Server], name: str, how: str
) -> None:
    server = breakable[name]
    async with fragile.service() as service:
        await eventually(lambda: service.readiness().waiting_for == [], deadline_s=60)

        def up() -> float | None:
            return service.metrics.registry.get_sample_value("tagger_dependency_up", {"dependency": name})

        assert up() == 1
        if how == "killed":
            server.kill()
        else:
            os.kill(server.pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        try:
            await eventually(
                lambda: any(reason.startswith(name) for reason in service.readiness().waiting_for),
                deadline_s=NAMED_S + BUSY_S,
            )
            took_s = time.monotonic() - stopped_s
            assert up() == 0
            assert service.live()
        finally:
            if how == "killed":
                server.start()
            else:
                os.kill(server.pid, signal.SIGCONT)
        assert took_s < NAMED_S + BUSY_S
        await eventually(lambda: service.readiness().waiting_for == [] and up() == 1, deadline_s=60)
