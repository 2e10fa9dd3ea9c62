"""Breaks of study feed."""

from typing import Final

from tests.unit.training.studies.mutants.breaks import Break

_TESTS: Final = "tests/unit/training/studies/test_feed_study.py::"
_HEADS, _RUN, _RATED = "training.studies.feed.heads", "training.studies.feed.run", "training.studies.rated"
_DIVISION: Final = f"{_TESTS}test_eighty_of_a_hundred_photos_train_and_twenty_test_as_published"
_VALUES: Final = "COMPONENTS, C, GAMMA, NU = 512, 0.4, 0.011, 0.08"

BREAKS: Final = (
    Break("4.1", "another network", _RUN, '("resnet50",)\n', '("resnet18",)\n'),
    Break("4.1", "a layer that learns nothing", _RATED, "LogisticRegression(C=0.1,", "LogisticRegression(C=1e-9,"),
    Break("4.2", "32 components", _HEADS, _VALUES, _VALUES.replace("512", "32"), _DIVISION),
    Break("4.2", "C 4", _HEADS, _VALUES, _VALUES.replace("0.4", "4.0")),
    Break("4.2", "a linear kernel", _HEADS, 'kernel="rbf"', 'kernel="linear"'),
    Break("4.2", "not whitened", _HEADS, "*features.shape), whiten=True", "*features.shape), whiten=False"),
    Break(
        "4.2",
        "45, 5 and 50 % of the photos",
        _RUN,
        "Shares(val=0.0, test=0.2)",
        "Shares(val=0.05, test=0.5)",
        _DIVISION,
    ),
    Break(
        "4.2",
        "half of the photos test in the careful way",
        _RUN,
        "Shares(val=0.15, test=0.2)",
        "Shares(val=0.15, test=0.5)",
        _DIVISION,
    ),
    Break("4.3", "gamma 0.11", _HEADS, _VALUES, _VALUES.replace("0.011", "0.11")),
    Break("4.3", "nu 0.8", _HEADS, _VALUES, _VALUES.replace("0.08", "0.8")),
    Break("4.3", "poor photos are learnt too", _HEADS, "good = train[0][train[1] == 1]", "good = train[0]"),
    Break("4.3", "gamma is chosen on test", _HEADS, "-areas[:, 0]", "-areas[:, 1]"),
    Break("4.3", "the worst gamma is chosen", _HEADS, "-areas[:, 0]", "areas[:, 0]"),
    Break(
        "4.4",
        "an interval of twice as many judgements",
        "training.trial.report",
        "wilson(yes, total)",
        "wilson(yes, 2 * total)",
        "tests/unit/training/trial/test_trial.py::test_precision_is_the_share_of_usable_picks_with_wilsons_interval",
    ),
)
