"""How many photos a run is over, for a dry run: its records are read, and nothing is fetched, judged or written."""

import asyncio
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from consumer import events
from consumer.errors import PhotoRejected
from consumer.events import PhotoDeleted, Record
from consumer.kafka.scan import Scan
from consumer.operations.run_retag import meant
from consumer.operations.runs import times_ms
from consumer.redis.store import Store
from consumer.runs.definition import Run
from consumer.settings import Settings


async def photos(settings: Settings, run: Run, told: Callable[[int, int], None] = lambda *_: None) -> int:
    """The photos that a run with ends would give an answer about, each once; memory is 8 bytes a record.

    Those whose newer content is in force, or that were deleted since, are still among them. `told` is called with the
    offsets that are read, and all.

    Raises:
        DependencyDown: Kafka or Redis does not answer.
    """
    kafka, times = settings.kafka, times_ms(run)
    names, ids = array("q"), frozenset(run.selection.ids)
    async with Store(**settings.redis.model_dump()) as store:
        with Scan(kafka.bootstrap_servers, kafka.extra, run.topic, ranges=run.ranges) as scan:
            while not scan.finished:
                records = await asyncio.to_thread(scan.read)
                within = [each for each in records if times is None or each.timestamp_ms in times]
                if run.kind == "retag":
                    found = [tags.photo_id for each in within if (tags := meant(run, ids, each))]
                else:
                    found = await _chosen(run, ids, store, within)
                names.extend(map(hash, found))
                told(scan.done, scan.total)
    return len(np.unique(np.frombuffer(names, np.int64))) if names else 0


async def _chosen(run: Run, ids: frozenset[str], store: Store, records: Sequence[Record]) -> list[str]:
    """The photos of uploads that are meant; one that cannot be read is that of its key.

    Raises:
        DependencyDown: Redis does not answer.
    """
    selection = run.selection
    names = [name for record in records if (name := _photo(record)) and selection.wants_id(name, ids)]
    if not selection.brands and not selection.levels:
        return names
    present = await asyncio.gather(*map(store.in_force, names))
    return [name for name, tags in zip(names, present, strict=True) if selection.wants(tags)]


def _photo(record: Record) -> str | None:
    """The photo of an upload; None for a deletion."""
    try:
        event = events.parse(record)
    except PhotoRejected:
        key = record.key
        return events.format_source(events.source_of(record)) if key is None else key.decode(errors="backslashreplace")
    return None if isinstance(event, PhotoDeleted) else event.photo_id
