"""Breaks of study grades."""

from typing import Final

from tests.unit.training.studies.mutants.breaks import Break

_TESTS: Final = "tests/unit/training/studies/test_grades.py::"
_DATA, _CLASSICAL, _FROZEN, _TUNED, _RUN = (
    f"training.studies.grades.{name}" for name in ("data", "classical", "frozen", "tuned", "run")
)
_RATED, _FIT, _EXTRACTED = "training.studies.rated", "training.studies.fit", "training.studies.grades.extracted"
_FROM_FILES: Final = f"{_TESTS}test_metadata_are_taken_from_the_photos_own_file"

_NINE: Final = (
    "LogisticRegression",
    "GaussianNB",
    "KNeighborsClassifier",
    "LinearDiscriminantAnalysis",
    "DecisionTreeClassifier",
    "RandomForestClassifier",
    "AdaBoostClassifier",
    "HistGradientBoostingClassifier",
    "SVC",
)

BREAKS: Final = (
    Break("0.1", "eighteen features are enough", _DATA, "LEAST_FEATURES: Final = 20", "LEAST_FEATURES: Final = 18"),
    Break("0.1", "a rating of 0 is one", _DATA, "return float(text) in LEVELS", "return float(text) in (0, *LEVELS)"),
    Break("0.1", "south is north", _EXTRACTED, 'values.get(gps.GPSLatitudeRef) == "S"', "False", _FROM_FILES),
    Break(
        "0.1",
        "the file wins over the list",
        _EXTRACTED,
        "{**found, **photo.metadata}",
        "{**photo.metadata, **found}",
        _FROM_FILES,
    ),
    Break("0.2", "the median is imputed", _DATA, 'strategy="mean"', 'strategy="median"'),
    Break("0.2", "a new text is the first label", _DATA, "unknown_value=-1", "unknown_value=-2"),
    Break("0.2", "no scaling", _DATA, "VarianceThreshold(), StandardScaler(), ", "VarianceThreshold(), "),
    Break(
        "0.2",
        "fitted on test photos too",
        _CLASSICAL,
        "if as_published else tables[TRAIN]\n",
        "if True else tables[TRAIN]\n",
        f"{_TESTS}test_only_the_published_way_looks_at_test_photos_to_prepare",
    ),
    Break(
        "0.3",
        "nine identical trees under nine names",
        _CLASSICAL,
        'return {\n        "LogisticRegression"',
        f"return dict.fromkeys({_NINE}, DecisionTreeClassifier(random_state=seed))\n"
        '    return {\n        "LogisticRegression"',
    ),
    Break("0.3", "the SVM is a tree", _CLASSICAL, '"SVC": SVC(', '"SVC": DecisionTreeClassifier('),
    Break("0.3", "the rarest rating as majority", _CLASSICAL, "truth[TRAIN]).argmax()", "truth[TRAIN]).argmin()"),
    Break("0.4", "correlation of values, not of ranks", _CLASSICAL, "stats.rankdata,", "lambda column: column,"),
    Break("0.5", "users are torn apart", _DATA, "USER if listing.grouped and USER in header else None", "None"),
    Break("0.5", "rows are drawn one by one", _RATED, "    if by_row:\n", "    if True:\n"),
    Break(
        "0.6",
        "the backbone moves",
        _FROZEN,
        "    estimator = last_layer()",
        "    next(seen.source.net.parameters()).data.add_(0.01)\n    estimator = last_layer()",
    ),
    Break(
        "0.6",
        "eight networks",
        _RUN,
        "tuple(net.arch for net in STUDY.models if net.arch)",
        "tuple(net.arch for net in STUDY.models if net.arch)[:8]",
        f"{_TESTS}test_the_nine_networks_of_the_study_are_there_by_name",
    ),
    Break("0.7", "no alarm", _FROZEN, "tuple(brand.never_predicted(test, predicted[TEST], names))", "()"),
    Break("0.8", "half of each level", _RATED, "least = min((len(found)", "least = min((len(found) // 2"),
    Break("0.8", "val and test are balanced too", _TUNED, "if split == TRAIN:", "if True:"),
    Break("0.9", "a 3 is good", _RATED, "1 if rating >= GOOD_LEVEL", "1 if rating >= 3"),
    Break("0.10", "RMSprop at 1e-4", _TUNED, "SECOND_RATE = 1e-3, 1e-5", "SECOND_RATE = 1e-3, 1e-4"),
    Break(
        "0.10",
        "RMSprop's alpha 0.5",
        _TUNED,
        "RMSprop(parameters, SECOND_RATE)",
        "RMSprop(parameters, SECOND_RATE, alpha=0.5)",
    ),
    Break("0.10", "SGD instead of Adam", _TUNED, "torch.optim.Adam(parameters", "torch.optim.SGD(parameters"),
    Break(
        "0.10",
        "the last weights instead of the best",
        _FIT,
        '    if plan.keep == "best":',
        "    if False:",
        "tests/unit/training/studies/test_fit.py::test_the_best_epochs_weights_are_kept_alone_and_restored",
    ),
    Break("0.10", "no macro recall", _TUNED, 'f"{stage.macro_recall:.3f}"', '""'),
)
