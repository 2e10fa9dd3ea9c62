from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import tagging, versions
from consumer.contract import NO_LOGO
from consumer.events import Brand, PhotoDeleted, PhotoUploaded, Scores, Source, Tags
from tests.fakes import CONTRACT, MOMENT

LABELS = (*(f"brand-{letter}" for letter in "abcdefgh"), NO_LOGO)
WIDE = replace(CONTRACT, brand_labels=LABELS)
EVENT = PhotoUploaded("p", "https://h/p", MOMENT)
SOURCE = Source("photo-uploads", 2, 41)
units = st.floats(0, 1, width=32)
thresholds = st.floats(0, 1) | st.integers(0, 10_000).map(lambda tenths: tenths / 10_000)


def decide(probabilities: list[float], *, threshold: float = 0.6, top_k: int = 5, score: float = 0.5) -> Tags:
    scores = Scores(score, np.array(probabilities, np.float32), CONTRACT.models)
    contract = replace(WIDE if len(probabilities) == len(LABELS) else CONTRACT, brand_threshold=threshold)
    return tagging.decide(EVENT, scores, SOURCE, contract, release=7, top_k=top_k, tagged_at=MOMENT)


def test_brands_at_or_above_the_threshold_are_tagged_best_first() -> None:
    decided = decide([0.6, 0.9, 0.99])
    assert decided.brands == (Brand("azure", 0.9), Brand("crimson", 0.6))


def test_a_probability_just_below_the_threshold_is_not_tagged() -> None:
    assert decide([0.5999, 0.1, 0.1]).brands == ()


def test_the_threshold_compares_the_rounded_value() -> None:
    assert decide([0.59996, 0.0, 0.0]).brands == (Brand("crimson", 0.6),)
    assert decide([0.59994, 0.0, 0.0]).brands == ()


def test_equal_probabilities_are_ordered_by_name() -> None:
    assert [brand.brand for brand in decide([0.8, 0.80001, 0.0]).brands] == ["azure", "crimson"]


def test_the_answer_says_who_asked_what_and_when() -> None:
    decided = decide([0.1, 0.2, 0.7])
    assert (decided.photo_id, decided.source, decided.tagged_at) == ("p", SOURCE, MOMENT)
    assert decided.models == {"photo_quality": "3", "brand_logo": "7"}
    assert decided.version == versions.version_of(EVENT, 7)


def test_more_or_fewer_probabilities_than_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match="argument"):
        decide([0.5, 0.5])


@given(st.lists(units, min_size=9, max_size=9), thresholds, st.integers(1, 9))
def test_brands_are_sorted_few_above_the_threshold_and_never_no_logo(
    probabilities: list[float], threshold: float, top_k: int
) -> None:
    brands = decide(probabilities, threshold=threshold, top_k=top_k).brands
    assert len(brands) <= top_k
    assert list(brands) == sorted(brands, key=lambda brand: (-brand.probability, brand.brand))
    assert all(brand.probability >= threshold and brand.brand != NO_LOGO for brand in brands)


@given(st.lists(units, min_size=9, max_size=9), thresholds, st.integers(1, 9))
def test_a_decision_repeated_from_the_published_probabilities_gives_the_same_brands(
    probabilities: list[float], threshold: float, top_k: int
) -> None:
    decided = decide(probabilities, threshold=threshold, top_k=top_k)
    published = [decided.probabilities[label] for label in LABELS]
    assert decide(published, threshold=threshold, top_k=top_k).brands == decided.brands
    by_a_reader = [
        (label, value) for label, value in decided.probabilities.items() if label != NO_LOGO and value >= threshold
    ]
    best = sorted(by_a_reader, key=lambda pair: (-pair[1], pair[0]))[:top_k]
    assert [(brand.brand, brand.probability) for brand in decided.brands] == best


@given(st.lists(units, min_size=9, max_size=9))
def test_every_probability_is_published_with_four_digits(probabilities: list[float]) -> None:
    published = decide(probabilities).probabilities
    assert tuple(published) == LABELS
    for given_value, value in zip(probabilities, published.values(), strict=True):
        assert value == round(value, 4)
        assert abs(value - given_value) <= 0.5e-4 + 1e-9


@pytest.mark.parametrize("probability", [1.0009, -0.0009])
def test_a_published_probability_lies_between_0_and_1(probability: float) -> None:
    decided = decide([probability, 0.0, 0.0])
    assert all(0 <= value <= 1 for value in decided.probabilities.values())


@given(units, units)
def test_the_level_never_falls_when_the_score_rises(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert tagging.quality_of(low, 0.5).level <= tagging.quality_of(high, 0.5).level


@given(st.floats(0, 1))
def test_the_level_is_the_nearest_of_five(score: float) -> None:
    quality = tagging.quality_of(score, 0.5)
    distances = [abs(quality.score - (level - 1) / 4) for level in range(1, 6)]
    assert distances[quality.level - 1] == min(distances)


@pytest.mark.parametrize(
    ("score", "level"), [(0.0, 1), (0.1249, 1), (0.125, 2), (0.5, 3), (0.8749, 4), (0.875, 5), (1.0, 5)]
)
def test_levels_meet_halfway(score: float, level: int) -> None:
    assert tagging.quality_of(score, 0.5).level == level


@given(st.floats(-0.01, 1.01), st.floats(0, 1))
def test_good_repeats_from_the_published_score(score: float, threshold: float) -> None:
    quality = tagging.quality_of(score, threshold)
    assert 0 <= quality.score <= 1
    assert quality.good == (quality.score >= threshold)
    assert tagging.quality_of(quality.score, threshold) == quality


def test_the_good_threshold_is_inclusive() -> None:
    assert tagging.quality_of(0.5, 0.5).good
    assert not tagging.quality_of(0.499999, 0.5).good


def test_a_deletion_is_decided_as_the_tombstone_of_its_event() -> None:
    event = PhotoDeleted("p", MOMENT)
    decided = tagging.decide_deletion(event, SOURCE)
    assert decided.version == versions.tombstone_of(event) > versions.version_of(EVENT, 999_999)
    assert (decided.photo_id, decided.source, decided.deleted_at) == ("p", SOURCE, MOMENT)
