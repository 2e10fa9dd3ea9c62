"""Runs: a rescoring of chosen photos under a candidate, and how far it is. Pure.

A record of the topic of runs, which is compacted, holds the newest state of a run under its id.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from consumer.events import Moment
from consumer.payloads import explain
from consumer.releases import Numbered, Release
from consumer.tags import Deletion, Tags

State = Literal["started", "paused", "complete", "cancelled", "promoted", "rolled back"]
#: States in which photos of a run may still be judged.
WORKED_ON: Final = frozenset[State]({"started", "paused"})
#: A replay is a run under the release in force whose answers are the tags.
Kind = Literal["rescore", "retag", "replay"]

#: Most ids that a run may list: they stand in its record.
MOST_IDS: Final = 50_000
_NO_END: Final = 2**63 - 1
ID_FORM: Final = r"^[a-z0-9][a-z0-9-]{0,39}$"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the photos in the ranges are meant: those that fit each of these; an empty one fits all.

    `brands` and `levels` are those of the tags in force.
    """

    #: Ids of photos.
    ids: tuple[str, ...] = ()
    #: Photos that are tagged with one of these.
    brands: tuple[str, ...] = ()
    #: Photos of one of these levels.
    levels: tuple[Annotated[int, Field(ge=1, le=5)], ...] = ()

    def wants_id(self, photo_id: str, ids: Collection[str]) -> bool:
        """Whether the photo is among the ids; `ids` are the selection's, quickly looked up."""
        return not self.ids or photo_id in ids

    def wants(self, tags: Tags | Deletion | None) -> bool:
        """Whether a photo with these tags in force is meant."""
        if not self.brands and not self.levels:
            return True
        if not isinstance(tags, Tags) or (self.levels and tags.quality.level not in self.levels):
            return False
        return not self.brands or any(brand.brand in self.brands for brand in tags.brands)

    def __str__(self) -> str:
        parts = (
            f"{len(self.ids)} ids" if self.ids else "",
            f"brand {', '.join(self.brands)}" if self.brands else "",
            f"level {', '.join(map(str, self.levels))}" if self.levels else "",
        )
        return "; ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets `start` to before `stop` of one partition; without an end where the run follows the topic."""

    #: The partition.
    partition: Annotated[int, Field(ge=0)]
    #: The first offset.
    start: Annotated[int, Field(ge=0)]
    #: The offset behind the last one; null where the run follows the topic.
    stop: Annotated[int, Field(ge=0)] | None

    def __len__(self) -> int:
        return 0 if self.stop is None else max(0, self.stop - self.start)

    @property
    def offsets(self) -> range:
        """Its offsets; where it has no end, as many as a log may have."""
        return range(self.start, _NO_END if self.stop is None else self.stop)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: fixed but for `state` and what follows it."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True)

    #: Its name, the key of the record, and the end of the name of its topic of answers.
    run_id: Annotated[str, Field(pattern=ID_FORM)]
    #: Photos are judged again, or decided again from their published probabilities; a replay makes the answers tags.
    kind: Kind
    #: What judges in this run.
    candidate: Release
    #: The number of the release in force at its start.
    base_number: int
    #: The release in force at its start.
    base: Release
    #: The topic that is read.
    topic: str
    #: The offsets that are read.
    spans: tuple[Span, ...]
    #: Only records written at or after this time.
    since: Moment | None
    #: Only records written before this time.
    until: Moment | None
    #: Which photos of those records.
    selection: Selection
    #: Photos in a second, of each worker; null without a limit.
    rate: Annotated[float, Field(gt=0)] | None
    #: Who started it.
    by: str
    #: When it was started.
    at: Moment
    #: Why, for a person.
    reason: str
    #: Where it is.
    state: State = "started"
    #: The number of the release that its answers were applied under.
    promoted: int | None = None
    #: The number of the release that took them back.
    rolled_back: int | None = None
    #: What happened to it, one line for each.
    history: tuple[str, ...] = ()
    #: Where the service was in the uploads then, if another topic is read; a promotion judges again from there.
    live: tuple[Span, ...] = ()

    @property
    def follows(self) -> bool:
        """Whether it goes on until it is stopped."""
        return any(span.stop is None for span in self.spans)

    @property
    def is_ended_replay(self) -> bool:
        """Whether it is a replay that is over: its answers are the tags, so that nothing more becomes of it."""
        return self.kind == "replay" and self.state not in WORKED_ON

    @property
    def total(self) -> int:
        """Offsets of its ranges; 0 where it follows."""
        return sum(map(len, self.spans))

    @property
    def ranges(self) -> dict[tuple[str, int], range]:
        """Its offsets, by topic and partition."""
        return {(self.topic, span.partition): span.offsets for span in self.spans}

    @property
    def judged_under(self) -> Numbered:
        """The candidate as a release, whose number is 0 until it is promoted."""
        return Numbered(0, self.candidate)

    @property
    def taken_back(self) -> str:
        """What the release that takes it back names as its run."""
        return f"{self.run_id}:rollback"

    def promotion_in(self, chain: Sequence[Numbered]) -> Numbered | None:
        """Of the releases that came into force, the one that its answers are applied under; None before that."""
        return self._named(chain, self.run_id, self.promoted)

    def rollback_in(self, chain: Sequence[Numbered]) -> Numbered | None:
        """Of the releases that came into force, the one that took it back; None where none did."""
        return self._named(chain, self.taken_back, self.rolled_back)

    def _named(self, chain: Sequence[Numbered], name: str, number: int | None) -> Numbered | None:
        # An earlier run of this name may have been deleted: its releases are older than this run.
        found = [
            each
            for each in chain
            if each.number == number or (each.release.run == name and each.number > self.base_number)
        ]
        return found[-1] if found else None

    def group(self, live: str) -> str:
        """The consumer group that reads its uploads."""
        return f"{live}.run.{self.run_id}"


#: Its JSON Schema is published under this name.
RUN: Final = "run"
RUN_ADAPTER: Final = TypeAdapter(Run)


def is_run_id(text: str) -> bool:
    """Whether a text may name a run: it is part of a topic's name."""
    return re.fullmatch(ID_FORM, text) is not None


def encode(run: Run) -> bytes:
    """The JSON form."""
    return orjson.dumps(run, option=orjson.OPT_UTC_Z)


def decode(value: bytes) -> Run:
    """The run in a record.

    Raises:
        ValueError: it holds none; the message names the field.
    """
    try:
        return RUN_ADAPTER.validate_json(value)
    except ValidationError as error:
        raise ValueError(explain(error)) from None
