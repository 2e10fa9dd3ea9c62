"""Promotes model versions and thresholds, and goes back: each is a release of its own, newer than all before it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from consumer import releases
from consumer.contract import ModelContract
from consumer.errors import NotFound, Refused, SettingsError
from consumer.events import Record
from consumer.operations import models
from consumer.operations.verification import Verification
from consumer.releases import Decision, ModelVersion, Numbered, Release
from consumer.service import construction, release_log
from consumer.settings import Settings

IN_FORCE: Final = "in force"
ONE_STEP_BACK: Final = "one step back"
IN_FORCE_ALREADY: Final = "nothing: it is in force already"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be promoted; None leaves it as it is in force, and a threshold goes with its version."""

    quality: ModelVersion | None = None
    brand: ModelVersion | None = None
    good_threshold: float | None = None
    brand_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A release that was appended, or the one in force where nothing was to be changed."""

    release: Numbered
    appended: bool
    #: In words.
    changed: str
    verifications: tuple[Verification, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """The newest release that came into force with a version, and what it is now."""

    number: int
    role: str


def uses(log: Sequence[Numbered]) -> dict[ModelVersion, Use]:
    """Of each version that the log names, its use: `in force`, `one step back` or `earlier`."""
    chain = releases.in_force(log)
    found: dict[ModelVersion, Use] = {}
    for back, numbered in reversed(list(enumerate(reversed(chain)))):
        role = (IN_FORCE, ONE_STEP_BACK)[back] if back < 2 else "earlier"  # noqa: PLR2004 - the last two
        found |= {each: Use(numbered.number, role) for each in (numbered.release.quality, numbered.release.brand)}
    return found


def needed(log: Sequence[Numbered]) -> dict[tuple[str, int], str]:
    """The versions that must stay loaded, and why."""
    return {
        (version.model, int(version.version)): f"{use.role}, release {use.number}"
        for version, use in uses(log).items()
        if use.role in {IN_FORCE, ONE_STEP_BACK}
    }


async def promote(settings: Settings, wish: Wish, reason: str, *, forced: bool) -> Change:
    """Appends a release of what is wished, once the versions that it changes are verified.

    Raises:
        Refused: a version is not as it was published, unless `forced`.
        NotFound: a version is not loaded.
        ContractMismatch: the models do not fit this service or each other.
        DependencyDown: Kafka or Triton does not answer.
    """
    chain = releases.in_force(await read_log(settings))
    before = chain[-1] if chain else None
    return await enforce(settings, await wished(settings, wish, before, reason), before, forced=forced)


async def enforce(settings: Settings, release: Release, before: Numbered | None, *, forced: bool) -> Change:
    """Appends a release, once the versions are verified that it does not share with the one in force `before`.

    Raises:
        Refused: a version is not as it was published, unless `forced`.
        DependencyDown: Kafka or Triton does not answer.
    """
    if before is not None and release.decides == before.release.decides:
        return Change(before, appended=False, changed=IN_FORCE_ALREADY)
    kept = () if before is None else (before.release.quality, before.release.brand)
    new = [each for each in (release.quality, release.brand) if each not in kept]
    verifications, problems = await _verified(settings, new)
    if problems and not forced:
        raise Refused(f"not promoted: {'; '.join(problems)}; --force promotes all the same")
    return await _append(settings, release, verifications)


async def rollback(settings: Settings, reason: str, to: int | None = None) -> Change:
    """Appends a release that decides as the one before that in force did, or as release `to`.

    Raises:
        NotFound: there is no such release, or its versions are not loaded.
        ContractMismatch: they are not what they were.
        DependencyDown: Kafka or Triton does not answer.
    """
    chain = releases.in_force(await read_log(settings))
    wanted = chain[-2:-1] if to is None else [each for each in chain if each.number == to]
    if not wanted:
        raise NotFound(
            "there is no release before the one in force"
            if to is None
            else f"release {to} never came into force; photo-tagger models releases lists those that did"
        )
    (back,) = wanted
    release = replace(back.release, reason=reason, by=release_log.author(), at=datetime.now(UTC), run=None)
    if release.decides == chain[-1].release.decides:
        return Change(chain[-1], appended=False, changed=IN_FORCE_ALREADY)
    await require_served(settings, release)
    return await _append(settings, release)


async def retire(settings: Settings, model: str, version: int) -> list[int]:
    """Unloads a version that neither the release in force nor the one before uses; see `models.retire`.

    Raises:
        Refused: it must stay.
        LoadRefused: Triton refuses, and says why.
        DependencyDown: Kafka or Triton does not answer.
    """
    return await models.retire(settings, model, version, needed(await read_log(settings)))


async def wished(settings: Settings, wish: Wish, before: Numbered | None, reason: str) -> Release:
    """The release that a wish makes of the one in force, or of the newest loaded versions where there is none.

    Raises:
        NotFound: a version is not loaded.
        ContractMismatch: the models do not fit this service or each other.
        DependencyDown: Triton does not answer.
    """
    old = None if before is None else before.release
    quality = wish.quality or (None if old is None else old.quality)
    brand = wish.brand or (None if old is None else old.brand)
    served = await _served(settings, quality, brand)
    published = releases.release_of(served, reason=reason, by=release_log.author(), at=datetime.now(UTC))
    good, branded = published.decision.good_threshold, published.decision.brand_threshold
    if old is not None:
        good = old.decision.good_threshold if published.quality == old.quality else good
        branded = old.decision.brand_threshold if published.brand == old.brand else branded
    decision = Decision(
        good if wish.good_threshold is None else wish.good_threshold,
        branded if wish.brand_threshold is None else wish.brand_threshold,
    )
    return replace(published, decision=decision)


async def require_served(settings: Settings, release: Release) -> None:
    """Checks that Triton serves what a release was made for.

    Raises:
        NotFound: one of its versions is not loaded.
        ContractMismatch: they are not what they were.
        DependencyDown: Triton does not answer.
    """
    releases.contract_under(release, await _served(settings, release.quality, release.brand))


async def _served(settings: Settings, quality: ModelVersion | None, brand: ModelVersion | None) -> ModelContract:
    """The contract of these versions, the newest loaded ones for None.

    Raises:
        NotFound: one is not loaded.
        ContractMismatch: they do not fit this service or each other.
        DependencyDown: Triton does not answer.
    """
    triton, wanted = settings.triton, [each for each in (quality, brand) if each is not None]
    async with models.client_of(settings) as client:
        for each in wanted:
            await client.describe(each.model, each.version)
    names = (quality.model if quality else triton.quality_model, brand.model if brand else triton.brand_model)
    async with construction.triton_client(settings) as client:
        return await client.read_contract(*names, {each.model: each.version for each in wanted})


async def _verified(settings: Settings, versions: Sequence[ModelVersion]) -> tuple[list[Verification], list[str]]:
    """What verifying these versions found, and in words what speaks against them; none is also where none can be.

    Raises:
        ContractMismatch: one does not say which file it serves.
        DependencyDown: Triton does not answer.
    """
    found, problems = [], []
    for each in versions:
        try:
            verification = await models.verify(settings, each.model, int(each.version))
        except (NotFound, SettingsError) as unverified:
            problems.append(f"{each} cannot be verified: {unverified}")
            continue
        found.append(verification)
        if not verification.passed:
            problems.append(f"{each} is not as it was published: {verification.summary}")
    return found, problems


async def _append(settings: Settings, release: Release, verifications: Sequence[Verification] = ()) -> Change:
    """Appends a release, and says what it changed: of what was in force then, whoever else appended meanwhile.

    Raises:
        Refused: it could not be read again.
        DependencyDown: Kafka does not answer.
    """
    try:
        releases.decode(Record("", 0, 0, None, releases.encode(release)))
    except (TypeError, ValueError) as error:
        raise Refused(f"this would be no release: {error}") from None
    appended = await asyncio.to_thread(release_log.append, settings.kafka, release)
    chain = releases.in_force(each for each in await read_log(settings) if each.number < appended.number)
    before, now = chain[-1] if chain else None, appended.release
    if not releases.succeeds(appended, before):
        # Another operator was faster with the same.
        return Change(before or appended, appended=False, changed=IN_FORCE_ALREADY, verifications=tuple(verifications))
    changed = releases.differences(before.release, now) if before else f"{now.quality} and {now.brand} judge"
    return Change(appended, appended=True, changed=changed, verifications=tuple(verifications))


async def read_log(settings: Settings) -> list[Numbered]:
    """The releases in the log.

    Raises:
        DependencyDown: Kafka does not answer, or there is no such topic.
    """
    return await asyncio.to_thread(release_log.history, settings.kafka)
