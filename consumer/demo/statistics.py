"""The demo's numbers, from its ledger alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from consumer.demo.traffic import Ledger
from consumer.events import Tags


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the summary says; rates and latencies are None where nothing was measured."""

    tagged: int
    dead_lettered: int
    photos_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None


def numbers_of(ledger: Ledger) -> Numbers:
    """Counts, photos per second from the first event to the last outcome, and latencies from event to tag."""
    latencies_ms = [
        outcome.at_ms - ledger.published_ms[photo_id]
        for photo_id, outcome in ledger.outcomes.items()
        if isinstance(outcome.result, Tags) and photo_id in ledger.published_ms
    ]
    return Numbers(
        tagged=len(latencies_ms),
        dead_lettered=len(ledger.outcomes) - len(latencies_ms),
        photos_per_s=_rate(ledger),
        p50_ms=_percentile(latencies_ms, 0.50),
        p95_ms=_percentile(latencies_ms, 0.95),
    )


def _rate(ledger: Ledger) -> float | None:
    if not ledger.outcomes or not ledger.published_ms:
        return None
    span_ms = max(outcome.at_ms for outcome in ledger.outcomes.values()) - min(ledger.published_ms.values())
    return len(ledger.outcomes) * 1000 / max(span_ms, 1)


def _percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile: a value that was measured, not one between two."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
