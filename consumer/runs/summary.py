"""The summary of a comparison: from its counts to the numbers of the report. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from consumer.escape import printable
from consumer.runs import report
from consumer.runs.answers import Answer
from consumer.runs.bounded import Named, Smallest
from consumer.runs.comparison import AGES, DECADE, MICROS, BrandSlice, Comparison, Slice
from consumer.runs.figures import Histogram, share
from consumer.runs.gates import Gates, gates, level_jumps
from consumer.runs.report import Report, RunHeader
from consumer.tags import Tags

#: The row of the names that there was no room for; see `bounded.Named`.
OTHERS: Final = "all others"
#: Bars of the distribution of scores.
BARS: Final = 40
_LEVELS: Final = range(1, 6)
_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def report_of(run: RunHeader, comparison: Comparison, limits: Gates) -> Report:
    """The report of a run's comparison; characters of the header that are not visible become escapes."""
    counts = comparison.counts
    violations = tuple(gates(comparison, limits))
    answers = counts["judged"] + counts["not_judged"]
    return Report(
        kind=report.DIFF,
        version=1,
        run=_printable(run),
        gates=report.GateState(not violations, limits, violations),
        photos=report.Photos(
            answers=answers,
            judged=counts["judged"],
            not_judged=counts["not_judged"],
            not_tagged_before=counts["not_tagged_before"],
            other_content=counts["other_content"],
            compared=counts["compared"],
        ),
        changes=_changes(comparison),
        agreement=_agreement(comparison),
        quality=_quality(comparison),
        brands=_brand_rows(comparison.by_brand),
        slices=report.Slices(
            _slice_rows(comparison.by_level), _slice_rows(comparison.by_format), _slice_rows(comparison.by_age, AGES)
        ),
        largest=_largest(comparison),
        not_judged=_not_judged(comparison),
        latency=_latency(comparison.took),
        photos_per_s=answers / run.seconds if run.seconds else None,
    )


def _printable(run: RunHeader) -> RunHeader:
    return replace(run, run_id=printable(run.run_id), photos=printable(run.photos), by=printable(run.by))


def _changes(comparison: Comparison) -> report.Changes:
    counts, levels = comparison.counts, comparison.levels
    compared = counts["compared"]
    return report.Changes(
        any=share(compared - counts["unchanged"], compared),
        higher_level=share(sum(photos for (was, now), photos in levels.items() if now > was), compared),
        lower_level=share(sum(photos for (was, now), photos in levels.items() if now < was), compared),
        level_jumps=share(level_jumps(comparison), compared),
        becomes_good=share(counts["becomes_good"], compared),
        no_longer_good=share(counts["no_longer_good"], compared),
        gains_brands=share(counts["gains_brands"], compared),
        loses_brands=share(counts["loses_brands"], compared),
        loses_all_brands=share(counts["loses_all_brands"], counts["had_brands"]),
    )


def _agreement(comparison: Comparison) -> report.Agreement:
    counts, levels = comparison.counts, comparison.levels
    compared = counts["compared"]
    return report.Agreement(
        level=share(sum(levels[level, level] for level in _LEVELS), compared),
        good=share(compared - counts["becomes_good"] - counts["no_longer_good"], compared),
        brands=share(counts["same_brands"], compared),
        all=share(counts["unchanged"], compared),
    )


def _quality(comparison: Comparison) -> report.QualityShift:
    before, after, shift = comparison.score_before, comparison.score_after, comparison.shift
    return report.QualityShift(
        mean_before=_unit(before.mean()),
        mean_after=_unit(after.mean()),
        mean_shift=_unit(shift.mean()),
        before=_quantiles(before),
        after=_quantiles(after),
        shift=_quantiles(shift),
        histogram_before=_bars(before),
        histogram_after=_bars(after),
        levels=tuple(tuple(comparison.levels[was, now] for now in _LEVELS) for was in _LEVELS),
    )


def _unit(micros: float | None) -> float | None:
    return None if micros is None else micros / MICROS


def _quantiles(scores: Histogram) -> report.Quantiles | None:
    found = scores.quantiles(_QUANTILES)
    return None if found is None else report.Quantiles(*(micros / MICROS for micros in found))


def _bars(scores: Histogram) -> tuple[int, ...]:
    """The counts in bars of equal width; the score 1 belongs to the last bar."""
    per_bar = len(scores.counts) // BARS
    *bars, last = (sum(scores.counts[start : start + per_bar]) for start in range(0, len(scores.counts), per_bar))
    return (*bars[:-1], bars[-1] + last)


def _slice_rows(slices: Named[Slice], order: Sequence[str] = ()) -> tuple[report.SliceRow, ...]:
    """A row for each name, in alphabetical order or in that which is given."""
    named = dict(slices.items())
    rows = [(name, named[name]) for name in order or named if name in named]
    return tuple(
        report.SliceRow(name, part.photos, _mean_shift(part), share(part.unchanged, part.photos))
        for name, part in (*rows, (OTHERS, slices.rest))
        if part.photos
    )


def _brand_rows(slices: Named[BrandSlice]) -> tuple[report.BrandRow, ...]:
    """The brands that change most first."""
    named = sorted(slices.items(), key=lambda entry: (-entry[1].gained - entry[1].lost, entry[0]))
    return tuple(
        report.BrandRow(
            brand=name,
            photos=part.photos,
            mean_shift=_mean_shift(part),
            unchanged=share(part.unchanged, part.photos),
            before=part.photos - part.gained,
            after=part.photos - part.lost,
            gained=part.gained,
            lost=part.lost,
        )
        for name, part in (*named, (OTHERS, slices.rest))
        if part.photos
    )


def _mean_shift(part: Slice) -> float:
    return part.shift / part.photos / MICROS


def _largest(comparison: Comparison) -> report.Largest:
    return report.Largest(
        quality_up=_listed(comparison.quality_up),
        quality_down=_listed(comparison.quality_down),
        brands_gained=_listed(comparison.brands_gained),
        brands_lost=_listed(comparison.brands_lost),
    )


def _listed(largest: Smallest[Answer]) -> tuple[report.Change, ...]:
    """The changes, whose sizes are their numbers with the other sign."""
    return tuple(
        report.Change(answer.photo_id, answer.uri, -number, _verdict(answer.before), _verdict(answer.after))
        for (number, _), answer in largest.kept
        if answer.before is not None and answer.after is not None
    )


def _verdict(tags: Tags) -> report.Verdict:
    return report.Verdict(tags.quality, tags.brands)


def _not_judged(comparison: Comparison) -> tuple[report.NotJudged, ...]:
    """The most frequent reason first."""
    named = sorted(comparison.not_judged.items(), key=lambda entry: (-entry[1].photos, entry[0]))
    return tuple(
        report.NotJudged(reason, part.photos, tuple(part.sample))
        for reason, part in (*named, (OTHERS, comparison.not_judged.rest))
        if part.photos
    )


def _latency(took: Histogram) -> report.Latency | None:
    found = took.quantiles((0.5, 0.95, 0.99))
    return None if found is None else report.Latency(*(10 ** (value / DECADE) for value in found))
