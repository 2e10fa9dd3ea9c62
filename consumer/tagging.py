"""The decision: from scores to tags. Pure."""

from collections.abc import Mapping
from datetime import datetime

from consumer import versions
from consumer.contract import NO_LOGO, ModelContract
from consumer.events import Brand, Deletion, PhotoDeleted, PhotoUploaded, Quality, Scores, Source, Tags
from consumer.tags import level_of

_SCORE_DIGITS = 6
_PROBABILITY_DIGITS = 4


def decide(
    event: PhotoUploaded,
    scores: Scores,
    source: Source,
    contract: ModelContract,
    *,
    release: int,
    top_k: int,
    tagged_at: datetime,
) -> Tags:
    """The tags of one photo: its quality, and at most `top_k` brands whose probability reaches the threshold.

    The rounded values are compared, so that the published probabilities give the same decision.
    """
    probabilities = {
        label: round(min(max(float(probability), 0.0), 1.0), _PROBABILITY_DIGITS)
        for label, probability in zip(contract.brand_labels, scores.brand_probs, strict=True)
    }
    return Tags(
        photo_id=event.photo_id,
        quality=quality_of(scores.quality_score, contract.good_threshold),
        brands=brands_of(probabilities, contract.brand_threshold, top_k),
        probabilities=probabilities,
        models=dict(sorted(scores.models.items())),
        version=versions.version_of(event, release),
        source=source,
        tagged_at=tagged_at,
    )


def brands_of(probabilities: Mapping[str, float], threshold: float, top_k: int) -> tuple[Brand, ...]:
    """The brands whose probability reaches the threshold, the likeliest first, at most `top_k`."""
    seen = [
        Brand(label, probability)
        for label, probability in probabilities.items()
        if label != NO_LOGO and probability >= threshold
    ]
    seen.sort(key=lambda brand: (-brand.probability, brand.brand))
    return tuple(seen[:top_k])


def decide_deletion(event: PhotoDeleted, source: Source) -> Deletion:
    """The tombstone of a deleted photo."""
    return Deletion(event.photo_id, versions.tombstone_of(event), source, event.deleted_at)


def quality_of(score: float, good_threshold: float) -> Quality:
    """The quality of a score 0..1: the nearest of the five levels, and whether it reaches the threshold."""
    rounded = round(min(max(float(score), 0.0), 1.0), _SCORE_DIGITS)
    return Quality(score=rounded, level=level_of(rounded), good=rounded >= good_threshold)
