"""Plausible answers of a run without any service: the same ones for the same seed."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from consumer.releases import Decision, ModelVersion
from consumer.runs.answers import Answer
from consumer.runs.report import Judges, RunHeader
from consumer.tags import Brand, Quality, Source, Tags

STARTED = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
IN_FORCE = Judges(4, ModelVersion("photo_quality", "2"), ModelVersion("brand_logo", "3"), Decision(0.5, 0.5))
CANDIDATE = Judges(None, ModelVersion("photo_quality", "3"), ModelVersion("brand_logo", "3"), Decision(0.5, 0.55))
RUN = RunHeader("r1", CANDIDATE, IN_FORCE, "uploads of 2026", STARTED, "alex", 50.0)
BRANDS = ("Aldera", "Bright", "Corvo", "Dunlin")
FORMATS = ("jpeg", "jpeg", "jpeg", "png", "webp", None)


def tags(
    score: float = 0.5,
    brands: dict[str, float] | None = None,
    *,
    photo_id: str = "p",
    content_rev: int = 7,
    threshold: float = 0.5,
    release: int = 1,
) -> Tags:
    probabilities = brands or {}
    return Tags(
        photo_id,
        Quality(round(score, 6), 1 + int(score * 4 + 0.5), score >= 0.5),
        tuple(Brand(brand, p) for brand, p in probabilities.items() if p >= threshold),
        {**probabilities, "no_logo": 0.5},
        {"photo_quality": "2", "brand_logo": "3"},
        f"{content_rev:013d}.{release:06d}.{0:013d}",
        Source("photo-uploads", 0, 41),
        STARTED,
    )


def answer(before: Tags | None = None, after: Tags | None = None, photo_id: str = "p", **changes: object) -> Answer:
    """An answer with both tags given that photo id, or, without `after`, one of a photo that is gone."""
    before, after = (None if each is None else replace(each, photo_id=photo_id) for each in (before, after))
    reason, detail = (None, "") if after is not None else ("http_4xx", "HTTP 404")
    uploaded_at, source = STARTED - timedelta(days=3), Source("photo-uploads", 0, 41)
    uri = f"https://photos.test/{photo_id}"
    given = Answer(photo_id, uri, uploaded_at, 7, source, before, after, reason, detail, "jpeg", 40.0)
    return replace(given, **changes)  # type: ignore[arg-type]


def plausible(photos: int, seed: int = 0) -> Iterator[Answer]:
    """Answers of a candidate that is a little stricter, and sees some brands better and one worse."""
    rng = random.Random(seed)
    for number in range(photos):
        photo_id = f"photo-{number}"
        score = rng.betavariate(3, 2)
        again = min(max(score + rng.gauss(-0.01, 0.04), 0.0), 1.0)
        seen = {brand: round(rng.betavariate(0.3, 2), 4) for brand in BRANDS}
        then = {brand: round(min(max(p + rng.gauss(0, 0.05), 0.0), 1.0), 4) for brand, p in seen.items()}
        made = answer(
            tags(score, seen) if rng.random() > 0.01 else None,
            tags(again, then, release=0) if rng.random() > 0.02 else None,
            photo_id,
            uploaded_at=STARTED - timedelta(days=rng.expovariate(1 / 60)),
            format=rng.choice(FORMATS),
            took_ms=rng.lognormvariate(4, 0.6),
        )
        yield made
