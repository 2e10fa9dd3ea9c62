"""An example of each kind of record and report, as the code writes it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from consumer import events, releases, versions
from consumer.contract import Geometry, label_checksum
from consumer.events import Brand, PhotoDeleted, PhotoUploaded, Quality, Source, Tags
from consumer.releases import Decision, ModelVersion, Release
from consumer.runs import answers, definition, report
from consumer.runs.answers import Answer
from consumer.runs.comparison import Comparison
from consumer.runs.definition import Run, Selection, Span
from consumer.runs.gates import Gates
from consumer.runs.report import Judges, RunHeader
from consumer.runs.summary import report_of

_UPLOADED_AT: Final = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
_LATER: Final = datetime(2026, 11, 22, 8, tzinfo=UTC)
_LABELS: Final = ("adidas", "starbucks", "no_logo")

_UPLOADED: Final = PhotoUploaded("beach-17", "https://photos.example/beach-17.jpg", _UPLOADED_AT)
_COMPLETE: Final = replace(
    _UPLOADED,
    uri="https://photos.example/beach-17-cropped.jpg",
    revision=2,
    uploader="ann",
    place="Bern",
    content_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    metadata={"camera": "X100"},
)
_TAGS: Final = Tags(
    photo_id=_UPLOADED.photo_id,
    quality=Quality(0.81, 4, good=True),
    brands=(Brand("starbucks", 0.97),),
    probabilities={"adidas": 0.0003, "starbucks": 0.97, "no_logo": 0.02},
    models={"brand_logo": "1", "photo_quality": "1"},
    version=versions.version_of(_UPLOADED, release=1),
    source=Source("photo-uploads", 1, 42),
    tagged_at=_UPLOADED_AT.replace(second=1, microsecond=0),
)
_RELEASE: Final = Release(
    quality=ModelVersion("photo_quality", "1"),
    brand=ModelVersion("brand_logo", "1"),
    decision=Decision(0.5, 0.9),
    label_checksum=label_checksum(_LABELS),
    geometries={"photo_quality": Geometry(256, 256), "brand_logo": Geometry(128, 128)},
    reason="the first",
    by="ann@ops-1",
    at=_UPLOADED_AT,
)
_CANDIDATE: Final = replace(_RELEASE, quality=ModelVersion("photo_quality", "2"), reason="sharper at night", at=_LATER)
_RUN: Final = Run(
    run_id="night-2",
    kind="rescore",
    candidate=_CANDIDATE,
    base_number=1,
    base=_RELEASE,
    topic="photo-uploads",
    spans=(Span(0, 0, 40), Span(1, 0, 43)),
    since=None,
    until=None,
    selection=Selection(levels=(1, 2)),
    rate=20.0,
    by="ann@ops-1",
    at=_LATER,
    reason="sharper at night",
)
_ANSWER: Final = Answer(
    photo_id=_TAGS.photo_id,
    uri=_UPLOADED.uri,
    uploaded_at=_UPLOADED.uploaded_at,
    content_rev=versions.content_in(_TAGS.version),
    source=_TAGS.source,
    before=_TAGS,
    after=replace(
        _TAGS,
        quality=Quality(0.9, 5, good=True),
        models={"brand_logo": "1", "photo_quality": "2"},
        version=versions.under(_TAGS.version, 0),
        tagged_at=_LATER,
    ),
    reason=None,
    detail="",
    format="jpeg",
    took_ms=41.5,
)
_FAILED: Final = replace(_ANSWER, after=None, reason="http_4xx", detail="HTTP 404", format=None)


def of(kind: str) -> list[Any]:
    """The examples of a kind, as JSON."""
    values: dict[str, tuple[Any, ...]] = {
        events.UPLOADED: (_UPLOADED, _COMPLETE),
        events.DELETED: (PhotoDeleted(_UPLOADED.photo_id, _LATER),),
        events.TAGGED: (_TAGS,),
        releases.RELEASE: (_RELEASE,),
        definition.RUN: (_RUN,),
        answers.ANSWER: (_ANSWER, _FAILED),
        report.DIFF: (_report(),),
    }
    written = [orjson.loads(orjson.dumps(value, option=orjson.OPT_UTC_Z)) for value in values[kind]]
    if kind in {events.UPLOADED, events.DELETED}:  # a sender leaves out what it does not know
        return [{name: value for name, value in each.items() if value is not None} for each in written]
    return written


def _report() -> report.Report:
    comparison = Comparison(_RUN.at)
    comparison.add(_ANSWER)
    comparison.add(replace(_FAILED, photo_id="beach-18"))
    judges = (_judges(None, _RUN.candidate), _judges(_RUN.base_number, _RUN.base))
    header = RunHeader(_RUN.run_id, *judges, "levels 1 and 2", _RUN.at, _RUN.by, seconds=4.0)
    return report_of(header, comparison, Gates())


def _judges(number: int | None, release: Release) -> Judges:
    return Judges(number, release.quality, release.brand, release.decision)
