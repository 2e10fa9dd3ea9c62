"""What must be true at the end of a demo; a line for each thing that is not."""

from collections.abc import Iterator, Mapping, Sequence

from consumer.demo.photos import DemoPhoto
from consumer.demo.traffic import Ledger, Outcome, Refusal
from consumer.events import Tags


def problems_of(
    photos: Sequence[DemoPhoto], ledger: Ledger, stored: Mapping[str, Tags], *, all_tagged: bool
) -> list[str]:
    """Everything that is wrong with a finished run.

    Args:
        photos: What was published.
        ledger: What became of it.
        stored: What Redis answers.
        all_tagged: Whether every photo that need not fail must have tags: true of the samples, not of a user's photos.
    """
    found = list(ledger.contradictions)
    for photo in photos:
        outcome = ledger.outcomes.get(photo.photo_id)
        if outcome is None:
            found.append(f"{photo.name}: no outcome")
            continue
        found.extend(_expectation(photo, outcome, all_tagged=all_tagged))
        found.extend(_disagreement(photo, outcome, stored.get(photo.photo_id)))
    return found


def _expectation(photo: DemoPhoto, outcome: Outcome, *, all_tagged: bool) -> Iterator[str]:
    reason = outcome.result.reason if isinstance(outcome.result, Refusal) else "tags"
    if photo.must_fail is not None and reason != photo.must_fail:
        yield f"{photo.name}: expected a dead letter {photo.must_fail}, got {reason}"
    elif photo.must_fail is None and all_tagged and isinstance(outcome.result, Refusal):
        yield f"{photo.name}: expected tags, got a dead letter {reason}: {outcome.result.detail}"


def _disagreement(photo: DemoPhoto, outcome: Outcome, stored: Tags | None) -> Iterator[str]:
    # What a reader decides by must be the same, whichever of the two it reads.
    published = outcome.result
    if isinstance(published, Refusal):
        if stored is not None:
            yield f"{photo.name}: a dead letter, but Redis has tags"
    elif stored is None:
        yield f"{photo.name}: tags in the result topic, but none in Redis"
    elif _decision(stored) != _decision(published):
        yield f"{photo.name}: Redis has {_decision(stored)}, the result topic has {_decision(published)}"


def _decision(tags: Tags) -> tuple[object, ...]:
    return tags.quality, tuple(tags.brands), dict(tags.models), tags.version
