"""The report of a trial: judges' verdict files, validated and combined into a precision with its interval."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from sklearn.metrics import cohen_kappa_score

from training.errors import DataError
from training.statistics import wilson
from training.trial.sheet import QUESTIONS, Key

#: Published by the study: the share of its model's picks that its operators accepted.
PUBLISHED: Final = {"usable": 0.5, "in_context": 0.25}


@dataclass(frozen=True, slots=True)
class Judgements:
    """The verdicts of one judge, by token and question."""

    judge: str
    answers: Mapping[str, Mapping[str, bool]]


@dataclass(frozen=True, slots=True)
class Share:
    """The share of judged photos with a yes, and its Wilson 95 % interval."""

    yes: int
    judged: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a trial."""

    trial: str
    judges: tuple[str, ...]
    sampled: int
    good: int
    models: Mapping[str, str]
    #: By question: for the model's picks, and for photos that it did not pick.
    picked: Mapping[str, Share]
    controls: Mapping[str, Share]
    unjudged: int
    missing: int
    #: Cohen's kappa over all pairs of judges, by question; None for a single judge.
    agreement: Mapping[str, float | None]


def read(path: Path, key: Key) -> Judgements:
    """Reads one judge's file.

    Raises:
        DataError: It holds no verdicts, belongs to another trial, names photos that are not on the sheet, or has other
            answers than yes and no.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        trial, judge, verdicts = values["trial"], str(values["judge"]).strip(), dict(values["verdicts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no verdicts: {type(error).__name__}: {error}") from None
    if trial != key.trial:
        raise DataError(f"{path} belongs to trial {trial}, not to {key.trial}")
    if not judge:
        raise DataError(f"{path} names no judge")
    tokens = {entry.token for entry in key.entries}
    for token, answers in verdicts.items():
        if token not in tokens:
            raise DataError(f"{path}: photo {token} is not on the sheet")
        if not isinstance(answers, dict) or any(type(answers.get(name)) is not bool for name in QUESTIONS):
            raise DataError(f"{path}, photo {token}: not a yes or no to each of {', '.join(QUESTIONS)}")
    return Judgements(judge, verdicts)


def summarise(key: Key, judged: Sequence[Judgements]) -> Report:
    """Combines verdicts: the majority of those who judged a photo decides; a tie is a no.

    Raises:
        DataError: No verdicts, or two files of one judge.
    """
    if not any(verdicts.answers for verdicts in judged):
        raise DataError("there are no verdicts yet")
    judges = Counter(verdicts.judge for verdicts in judged)
    twice = [name for name, count in judges.items() if count > 1]
    if twice:
        raise DataError(f"two files are from {', '.join(twice)}: give the newer one")
    unjudged = sum(not any(entry.token in verdicts.answers for verdicts in judged) for entry in key.entries)
    return Report(
        key.trial,
        tuple(judges),
        key.sampled,
        key.good,
        key.models,
        {name: _share(key, judged, name, picked=True) for name in QUESTIONS},
        {name: _share(key, judged, name, picked=False) for name in QUESTIONS},
        unjudged,
        len(key.missing),
        {name: _kappa(judged, name) for name in QUESTIONS},
    )


def _share(key: Key, judged: Sequence[Judgements], question: str, *, picked: bool) -> Share:
    yes = total = 0
    for entry in key.entries:
        answers = [verdicts.answers[entry.token][question] for verdicts in judged if entry.token in verdicts.answers]
        if entry.picked == picked and answers:
            total += 1
            yes += 2 * sum(answers) > len(answers)
    interval = wilson(yes, total)
    return Share(yes, total, yes / total if total else float("nan"), interval.low, interval.high)


def _kappa(judged: Sequence[Judgements], question: str) -> float | None:
    """Cohen's kappa over every photo that two judges share; 1 where all answers are equal; None without such photos."""
    pairs = [
        (one.answers[token][question], other.answers[token][question])
        for one, other in combinations(judged, 2)
        for token in sorted(one.answers.keys() & other.answers.keys())
    ]
    if not pairs:
        return None
    left, right = zip(*pairs, strict=True)
    return 1.0 if len({*left, *right}) == 1 else float(cohen_kappa_score(left, right))


def as_json(found: Report) -> dict[str, Any]:
    """Plain values; `share` is null where nothing was judged."""
    values = asdict(found)
    for part in ("picked", "controls"):
        for share in values[part].values():
            share["share"] = share["share"] if share["judged"] else None
    return values


def markdown(found: Report) -> str:
    """The report as Markdown."""
    lines = [
        f"# Trial {found.trial}",
        "",
        f"{found.sampled} photos drawn from the result topic, {found.good} of them called good by "
        + ", ".join(f"{name} version {version}" for name, version in sorted(found.models.items()))
        + f". Judged blind by {', '.join(found.judges)}; {found.unjudged} photos of the sheet were not judged, "
        f"{found.missing} could not be shown.",
        "",
        "| | picked by the model | 95 % | not picked | 95 % | published |",
        "|---|---|---|---|---|---|",
    ]
    for name, text in QUESTIONS.items():
        cells = [part for share in (found.picked[name], found.controls[name]) for part in _cells(share)]
        lines.append(f"| {text} | {' | '.join(cells)} | {PUBLISHED[name]:.0%} |")
    kappas = [f"{QUESTIONS[name]} {value:.2f}" for name, value in found.agreement.items() if value is not None]
    lines += ["", f"Agreement of the judges (Cohen's kappa): {', '.join(kappas) or 'one judge, so none'}.", ""]
    return "\n".join(lines)


def _cells(share: Share) -> tuple[str, str]:
    if not share.judged:
        return "not judged", ""
    return f"{share.yes} of {share.judged}: {share.share:.1%}", f"{share.low:.1%} to {share.high:.1%}"
