"""Breaks of study openimages."""

from typing import Final

from tests.unit.training.studies.mutants.breaks import Break

_TESTS: Final = "tests/unit/training/studies/test_openimages.py::"
_LISTS, _PLACEHOLDERS, _CROPS, _DATA, _RUN, _REPORT, _REBUILD, _PACKAGE = (
    f"training.studies.openimages.{name}"
    for name in ("lists", "placeholders", "crops", "data", "run", "report", "rebuild", "package")
)
_DOWNLOAD, _FIT, _CNN = "training.data.download", "training.studies.fit", "training.models.small_cnn"
_PACE: Final = _TESTS + "test_five_requests_start_in_any_five_seconds_unless_told_otherwise"
_LAYOUT: Final = _TESTS + "test_lists_lie_as_in_the_release_or_plainly"
_LISTED: Final = _TESTS + "test_a_file_with_another_size_or_md5_than_listed_is_a_placeholder"
_AVERAGES: Final = _TESTS + "test_the_report_has_supports_and_three_averages_as_scikit_learn_does"
_PACKED: Final = _TESTS + "test_a_package_that_was_changed_or_cut_by_other_rules_is_refused"
_PREDICTS: Final = _TESTS + "test_the_saved_network_is_a_run_that_predicts_what_the_study_found"
_PHOTO: Final = _TESTS + "test_crops_of_one_photo_stay_in_one_split"

BREAKS: Final = (
    Break("3.1", "fifty requests", _DOWNLOAD, "requests: int = 5", "requests: int = 50", _PACE),
    Break("3.1", "in a second", _DOWNLOAD, "per_s: float = 5.0", "per_s: float = 1.0", _PACE),
    Break("3.1", "photos of every class", _LISTS, "if name is None:", "if False:"),
    Break("3.1", "boxes beside the classes", _LISTS, '"2018_04/train/train-annot', '"2018_04/train-annot', _LAYOUT),
    Break("3.1", "another address", _LISTS, "googleapis.com/openimages", "googleapis.com/open", _LAYOUT),
    Break("3.2", "grey photos stay", _PLACEHOLDERS, "rules.single_channel and", "False and"),
    Break("3.2", "listed hashes stay", _PLACEHOLDERS, "digest in known", "digest in ()"),
    Break("3.2", "shared bytes stay", _PLACEHOLDERS, "count > 1", "count > 9"),
    Break("3.2", "redirected ones stay", _PLACEHOLDERS, '_REDIRECT: Final = "unavailable"', '_REDIRECT: Final = "x"'),
    Break("3.2", "any MD5 will do", _PLACEHOLDERS, "decode() != original.md5", 'decode() == ""', _LISTED),
    Break("3.2", "mirrors must have it too", _PLACEHOLDERS, 'asked.get("url") != original.url', "False", _LISTED),
    Break("3.3", "the box is cut down", _CROPS, "round(left * width)", "int(left * width) + 1"),
    Break("3.3", "height by the width", _CROPS, "round(bottom * height)", "round(bottom * width)"),
    Break("3.3", "photos are torn apart", _DATA, "label=box.name, group=box.photo", "label=box.name", _PHOTO),
    Break("3.4", "no rotation", _RUN, "rotation_deg=40, ", ""),
    Break("3.4", "no zoom", _RUN, "zoom=0.2, flip=True", "flip=True"),
    Break("3.4", "batches of 8", _RUN, "batch: int = 16", "batch: int = 8"),
    Break("3.4", "pixels of 0 to 255", _RUN, ".float() / 255", ".float()"),
    Break("3.5", "rate 0.5", _RUN, "RATE: Final = 5e-4", "RATE: Final = 0.5"),
    Break("3.5", "alpha 0.5", _RUN, "alpha=0.9", "alpha=0.5"),
    Break("3.5", "Adam", _RUN, "RMSprop(weights, RATE, alpha=0.9,", "Adam(weights, RATE,"),
    Break("3.5", "a batch of no_logo", _CNN, "_NEVER: Final = -60.0", "_NEVER: Final = 0.0", _PREDICTS),
    Break("3.6", "three epochs", _RUN, "epochs: int = 50", "epochs: int = 3"),
    Break("3.6", "patience of 8", _RUN, "patience: int = 4", "patience: int = 8"),
    Break("3.6", "stopped an epoch late", _FIT, "best.number >= plan.pat", "best.number > plan.pat"),
    Break("3.6", "the last is kept", _FIT, 'if plan.keep == "best":', 'if plan.keep == "none":'),
    Break("3.7", "micro for macro", _REPORT, "found[MICRO] = ", 'found["macro avg"] = found[MICRO] = ', _AVERAGES),
    Break("3.7", "no split by default", _DATA, "    if wanted.as_published:\n", "    if True:\n", _PHOTO),
    Break("3.8", "metrics are not compared", _REBUILD, '"settings", "metrics")', '"metrics")'),
    Break("3.8", "five commands", _REBUILD, '"scripts/setup models",', '"scripts/setup models", "",'),
    Break("3.8", "changed crops are taken", _PACKAGE, 'sha256(file) != entry["sha256"]', "False", _PACKED),
)
