"""Releases: which version of which model judges, and with which thresholds. Pure.

A release is a record of a topic of one partition that never expires. Its number is its place there, so that Kafka
orders promotions: `service/release_log.py` reads and writes the topic.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, ClassVar, Final

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from consumer.contract import Geometry, ModelContract, label_checksum
from consumer.errors import ContractMismatch
from consumer.events import Moment, Record
from consumer.payloads import explain
from consumer.tags import Share

#: Six digits of a version of tags; the highest number there marks deletions.
MAX_RELEASE: Final = 999_998

_Text = Annotated[str, Field(max_length=1000)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
#: As Triton writes it: the version is compared as text.
_VERSION: Final = r"^[1-9][0-9]{0,2}$"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model, by the names that Triton has for them."""

    #: The name of the model.
    model: _Name
    #: The number of the version.
    version: Annotated[str, Field(pattern=_VERSION)]

    def __str__(self) -> str:
        return f"{self.model} {self.version}"


@dataclass(frozen=True, slots=True)
class Decision:
    """From which score on a photo is good, and from which probability on it shows a brand."""

    #: The lowest score of a photo that is good.
    good_threshold: Share
    #: The lowest probability of a brand that is tagged.
    brand_threshold: Share


@dataclass(frozen=True, slots=True)
class Release:
    """One decision on what judges photos. Labels and geometries are those that the versions were chosen with."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True)

    #: What judges how good a photo is.
    quality: ModelVersion
    #: What judges which brands it shows.
    brand: ModelVersion
    #: The thresholds.
    decision: Decision
    #: SHA-256 of the labels of the model of brands, joined by newlines.
    label_checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    #: What each model sees of a photo, by its name.
    geometries: dict[str, Geometry]
    #: Why it was decided, for a person.
    reason: _Text
    #: Who decided it.
    by: _Text
    #: When it was decided.
    at: Moment
    #: The run whose answers are applied under this release.
    run: str | None = None
    #: The highest number that was used before the topic began: it continues a log that is gone.
    numbers_after: Annotated[int, Field(ge=0, lt=MAX_RELEASE)] = 0

    @property
    def decides(self) -> tuple[object, ...]:
        """What it decides, apart from who wrote it, when and why."""
        return self.quality, self.brand, self.decision, self.label_checksum, self.geometries

    @property
    def models(self) -> dict[str, str]:
        """The versions by model name."""
        return {self.quality.model: self.quality.version, self.brand.model: self.brand.version}


@dataclass(frozen=True, slots=True)
class Numbered:
    """A release and its number, which stands in the middle of the versions of tags."""

    number: int
    release: Release


#: Its JSON Schema is published under this name.
RELEASE: Final = "photo.release"
RELEASE_ADAPTER: Final = TypeAdapter(Release)


def release_of(contract: ModelContract, *, reason: str, by: str, at: datetime) -> Release:
    """The release of what Triton serves, with the thresholds that its models were published with."""
    return Release(
        ModelVersion(contract.quality_model, contract.quality_version),
        ModelVersion(contract.brand_model, contract.brand_version),
        Decision(contract.good_threshold, contract.brand_threshold),
        label_checksum(contract.brand_labels),
        contract.geometries,
        reason,
        by,
        at,
    )


def contract_under(release: Release, served: ModelContract) -> ModelContract:
    """The contract of a release: what Triton serves of its versions, decided by its thresholds.

    Raises:
        ContractMismatch: other labels or geometries are served than those that the release was made for.
    """
    checksum = label_checksum(served.brand_labels)
    pairs: list[tuple[str, object, object]] = [
        ("labels", release.label_checksum, checksum),
        *((f"{name}: input", release.geometries.get(name), each) for name, each in served.geometries.items()),
        *((f"{name}: version", release.models.get(name), number) for name, number in served.models.items()),
    ]
    wrong = [f"{what} {now}, not {wanted}" for what, wanted, now in pairs if wanted != now]
    if wrong:
        raise ContractMismatch(f"served are {'; '.join(wrong)}")
    decision = release.decision
    return replace(served, good_threshold=decision.good_threshold, brand_threshold=decision.brand_threshold)


def encode(release: Release) -> bytes:
    """The JSON form."""
    return orjson.dumps(release, option=orjson.OPT_UTC_Z)


def decode(record: Record) -> Numbered:
    """The release in a record, with its number.

    Raises:
        ValueError: the record holds none.
    """
    try:
        release = RELEASE_ADAPTER.validate_json(record.value or b"")
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    number = release.numbers_after + record.offset + 1
    if number > MAX_RELEASE:
        raise ValueError(f"its number {number} is beyond {MAX_RELEASE}")
    return Numbered(number, release)


def succeeds(release: Numbered, force: Numbered | None) -> bool:
    """Whether a release comes into force after another: it has a higher number and decides something else."""
    return force is None or (release.number > force.number and release.release.decides != force.release.decides)


def in_force(releases: Iterable[Numbered]) -> list[Numbered]:
    """Those of a log that came into force, in their order: the last one is in force."""
    chain: list[Numbered] = []
    for release in releases:
        if succeeds(release, chain[-1] if chain else None):
            chain.append(release)
    return chain


def differences(before: Release, now: Release) -> str:
    """What a release changes, for an operator: `photo_quality 1 is now photo_quality 2; ...`."""
    pairs: list[tuple[str, object, object]] = [
        ("", before.quality, now.quality),
        ("", before.brand, now.brand),
        ("good_threshold ", before.decision.good_threshold, now.decision.good_threshold),
        ("brand_threshold ", before.decision.brand_threshold, now.decision.brand_threshold),
        ("label_checksum ", before.label_checksum, now.label_checksum),
    ]
    return "; ".join(f"{name}{old} is now {new}" for name, old, new in pairs if old != new)
