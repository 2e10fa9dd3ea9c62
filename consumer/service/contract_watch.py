"""The contract that Triton serves: what is said of it, and the watch for another one."""

import asyncio
from typing import Final

from consumer.contract import ModelContract
from consumer.resilience import Dependencies
from consumer.telemetry import Log
from consumer.triton.serving import Serving

#: Between two looks, which take Triton 2 ms.
_LOOK_S: Final = 1.0


async def next_contract(serving: Serving, dependencies: Dependencies) -> ModelContract:
    """Looks at the served contract all the time; returns once it is another one than that in force."""
    while True:
        served = await dependencies.retry_until_available("triton", serving.changed)
        if served is not None:
            return served
        await asyncio.sleep(_LOOK_S)


def report(contract: ModelContract, log: Log) -> None:
    """Logs a contract that comes into force."""
    log.info(
        "contract.read",
        models=contract.models,
        input_sizes={name: geometry.input_size for name, geometry in contract.geometries.items()},
        brands=len(contract.brand_labels) - 1,
        brand_threshold=contract.brand_threshold,
        good_threshold=contract.good_threshold,
    )
