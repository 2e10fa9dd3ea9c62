"""Every panel and alert about the tagger and Triton has its series in what running ones show."""

import asyncio
import urllib.request
from pathlib import Path

from aiohttp import web

from consumer.embedded.paths import free_port
from consumer.embedded.triton import Triton
from tests.harness import RED, World, eventually
from tests.harness_process import running_tagger
from tests.promql import ROOT, Series, alert_queries, dashboard_queries, exposed, faults, jobs, selectors

#: Series that begin with a fault that this test does not cause; the family must be declared.
UNHAPPY = {
    "tagger_commit_overdue_seconds": {"topic"},
    "tagger_commits_refused_total": {"reason"},
    "tagger_disordered_events_total": {"reason"},
    "tagger_records_lost_total": {"topic"},
}


def shown(triton: Triton) -> Series:
    with urllib.request.urlopen(triton.metrics_url, timeout=5) as answer:
        return exposed(answer.read().decode())


async def test_every_panel_and_alert_has_its_series(world: World, predictable_triton: Triton, tmp_path: Path) -> None:
    released = asyncio.Event()

    async def slowly() -> web.Response:
        await released.wait()
        return web.Response(body=RED)

    world.photos.answers.update(red=RED, slow=slowly)
    with running_tagger(world.settings, tmp_path, port=free_port(), TAGGER_SERVICE__WORKERS="2") as tagger:
        await tagger.all_at_work()
        for number in range(8):
            world.upload(f"photo{number}", "red")
        world.upload("missing")
        await eventually(lambda: len(world.tags()) == 8 and len(world.dead()) == 1)
        # One that does not end: a record has an age until it has its outcome.
        world.upload("slow")
        # Both are asked for once in a while.
        late = {"tagger_consumer_lag_records", "tagger_oldest_unfinished_seconds"}
        await eventually(lambda: late <= exposed(tagger.get("/metrics")[1]).labels.keys())
        tagger_shows = exposed(tagger.get("/metrics")[1])
        released.set()
    triton_shows = await asyncio.to_thread(shown, predictable_triton)

    known = jobs() | tagger_shows | triton_shows
    for name, labels in UNHAPPY.items():
        assert name in tagger_shows.declared
        known.labels.setdefault(name, set()).update(labels)
    for path in (ROOT / "tests/series").glob("*.prom"):
        known |= exposed(path.read_text(encoding="utf-8"))
    assert "worker" in tagger_shows.labels["tagger_records_total"]
    # Nothing of theirs comes from a file.
    queries = dashboard_queries() + alert_queries()
    asked = {name for query in queries for one in selectors(query.parsed) if (name := one.name)}
    files = ("redis_", "kafka_", "nv_gpu_", "up", "ALERTS")
    here = {name for name in asked if not name.startswith(files)}
    assert here - UNHAPPY.keys() <= tagger_shows.labels.keys() | triton_shows.labels.keys()
    assert [fault for query in queries for fault in faults(query, known)] == []
