"""Version-ordered writes of tags and tombstones to Redis."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from consumer.events import Deletion, Tags
from consumer.redis.async_link import AsyncLink
from consumer.redis.commands import Command, Script
from consumer.redis.failures import redis_failures
from consumer.redis.schema import bucket, decision_of, fields_of, index_prefix, photo_key

WriteOutcome = Literal["written", "unchanged", "superseded"]
#: What Redis holds of a photo, compared with what it should hold.
Difference = Literal["missing", "older", "different", "not indexed"]

_UNDECLARED: Final = b"undeclared"


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did, and what is in force after it."""

    outcome: WriteOutcome
    in_force: Tags | Deletion | None


class Store(AbstractAsyncContextManager["Store"]):
    """Writes to Redis. An async context manager that owns the connections."""

    def __init__(self, url: str, *, timeout_s: float, cluster: bool = False) -> None:
        self._redis = AsyncLink(url, timeout_s, cluster=cluster)
        self._script = Script("write_tags.lua")

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        """Checks that Redis answers.

        Raises:
            DependencyDown: it does not.
        """
        with redis_failures():
            await self._redis.ping()

    async def write(self, decision: Tags | Deletion) -> Written:
        """Writes tags, or replaces them by a tombstone, unless the same or a newer version is there.

        The answer to a repeated write has what Redis holds (with the probabilities of this one), so that the result
        topic and Redis always agree on when a photo was tagged.

        Raises:
            DependencyDown: Redis does not answer or cannot take writes now (out of memory, loading, read-only).
        """
        ((result, *present),) = await self._run([decision])
        outcome: WriteOutcome = result.decode()
        if outcome == "written":
            return Written(outcome, decision)
        texts = [entry.decode() for entry in present]
        in_force = decision_of(decision.photo_id, dict(zip(texts[::2], texts[1::2], strict=True)))
        if outcome == "unchanged" and isinstance(in_force, Tags) and isinstance(decision, Tags):
            in_force = replace(in_force, probabilities=decision.probabilities)
        return Written(outcome, in_force)

    async def write_all(self, decisions: Sequence[Tags | Deletion]) -> list[WriteOutcome]:
        """`write` of each in one round trip; each is atomic by itself, and all may be repeated.

        Raises:
            DependencyDown: as `write`; some of them may have been written.
        """
        return [outcome.decode() for outcome, *_ in await self._run(decisions)]

    async def in_force(self, photo_id: str) -> Tags | Deletion | None:
        """What Redis holds of a photo; None where it holds nothing.

        The `probabilities` of tags are those of their brands: Redis keeps no others.

        Raises:
            DependencyDown: Redis does not answer.
        """
        with redis_failures():
            (present,) = await self._redis.run([("HGETALL", photo_key(photo_id))])
        fields = {name.decode(): value.decode() for name, value in present.items()}
        decision = decision_of(photo_id, fields)
        if isinstance(decision, Tags):
            return replace(decision, probabilities={brand.brand: brand.probability for brand in decision.brands})
        return decision

    async def newer(self, photo_id: str, version: str) -> Tags | Deletion | None:
        """What Redis holds of a photo, if that is newer than `version`; nearly always None, which takes one HGET.

        Raises:
            DependencyDown: Redis does not answer.
        """
        with redis_failures():
            (present,) = await self._redis.run([("HGET", photo_key(photo_id), "ver")])
        if present is None or present.decode() <= version:
            return None
        now = await self.in_force(photo_id)
        return now if now is not None and now.version > version else None

    async def differences(self, decisions: Sequence[Tags | Deletion]) -> list[Difference | None]:
        """What Redis lacks of each, in one round trip; None where it holds the same or something newer.

        Raises:
            DependencyDown: Redis does not answer.
        """
        commands: list[Command] = []
        for decision in decisions:
            commands.append(("HGETALL", photo_key(decision.photo_id)))
            commands += (("ZSCORE", key, decision.photo_id) for key in _index_keys(decision))
        with redis_failures():
            replies = iter(await self._redis.run(commands))
        return [
            _difference(decision, next(replies), [next(replies) for _ in _index_keys(decision)])
            for decision in decisions
        ]

    async def _run(self, decisions: Sequence[Tags | Deletion]) -> list[list[Any]]:
        """The script's answers; it is called again where a photo loses brands, which only Redis knows."""
        keys = [[photo_key(decision.photo_id), *_index_keys(decision)] for decision in decisions]
        answers: list[list[Any]] = [[]] * len(decisions)
        calls = list(range(len(decisions)))
        while calls:
            commands = [self._script.call(keys[place], _arguments(decisions[place])) for place in calls]
            with redis_failures():
                for place, answer in zip(calls, await self._redis.run(commands, self._script), strict=True):
                    answers[place] = answer
            # Repeated more than once only if another writer changed the photo, to a higher version: so this ends.
            calls = [place for place in calls if answers[place][0] == _UNDECLARED]
            for place in calls:
                keys[place] += (key.decode() for key in answers[place][1:])
        return answers


def _arguments(decision: Tags | Deletion) -> list[str | bytes]:
    """The script's arguments after the keys."""
    quality, brands = 0.0, list[str]()
    if isinstance(decision, Tags):
        quality, brands = decision.quality.score, [brand.brand for brand in decision.brands]
    prefix = index_prefix(bucket(decision.photo_id))
    arguments: list[str | bytes] = [decision.photo_id, prefix, decision.version, repr(quality), orjson.dumps(brands)]
    for name, value in fields_of(decision).items():
        arguments += (name, value)
    return arguments


def _index_keys(decision: Tags | Deletion) -> list[str]:
    prefix = index_prefix(bucket(decision.photo_id))
    return [prefix + brand.brand for brand in decision.brands] if isinstance(decision, Tags) else []


def _difference(
    decision: Tags | Deletion, present: Mapping[bytes, bytes], scores: Sequence[float | None]
) -> Difference | None:
    version = present.get(b"ver", b"").decode()
    if version > decision.version:
        return None
    if version < decision.version:
        return "older" if present else "missing"
    expected = {name.encode(): value.encode() for name, value in fields_of(decision).items()}
    if present != expected:
        return "different"
    listed = isinstance(decision, Deletion) or all(score == decision.quality.score for score in scores)
    return None if listed else "not indexed"
