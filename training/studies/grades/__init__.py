"""Study 1: grades of photos, from metadata and from pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.studies import backbones
from training.studies.study import Mistake, Options, Published, Result, Row, Study

if TYPE_CHECKING:
    from rich.console import Console

_ARTICLE: Final = "the study's article; its tables are pictures that were lost"
_TEST: Final = "tests/unit/training/studies/test_grades.py::test_"


def _run(options: Options, console: "Console") -> Result:
    from training.studies.grades.run import run  # noqa: PLC0415 - torch takes seconds, --list must not

    return run(options, console)


def _make(folder: Path, seed: int) -> None:
    from training.studies.grades.made import make  # noqa: PLC0415 - as above

    make(folder, seed)


STUDY: Final = Study(
    name="grades",
    title="Photo grades: metadata, then pictures",
    origin=(
        "An engineering article of 2018: a place-discovery app rates its users' photos 1 to 5, first with classical "
        "models on metadata, then with pretrained convolutional networks."
    ),
    data=(
        "rated photos (one million, later one and a half): ratings.csv with image, rating 1..5, optionally user, and "
        "20 or more metadata features (time, date, place, ...)"
    ),
    published=(
        Published("best classical model, test accuracy", "about 0.40 (trees)", _ARTICLE),
        Published("inception_v3 frozen, 5 levels, test accuracy", "lost", _ARTICLE),
        Published("inception_v3 fine-tuned, then RMSprop 1e-5, test accuracy", "lost", _ARTICLE),
    ),
    mistakes=(
        Mistake(
            "rows drawn one by one",
            "splits photos at random and says nothing of users, whose photos are alike, or of near-duplicates; they "
            "are then on both sides",
            "a user's photos, copies and near-duplicates stay in one split",
        ),
        Mistake(
            "prepared on everything",
            "says nothing of what means, labels, scales and selection were fitted on; the plain reading is all photos, "
            "the test's included",
            "everything is fitted on training photos; a text that training never showed gets a label of its own",
        ),
        Mistake(
            "accuracy alone",
            "a network that says one level for every photo reaches that level's share; the article found it in a "
            "confusion matrix only",
            "majority baseline, macro recall and an alarm for levels that are never said, in every mode",
        ),
    ),
    rows=(
        Row(
            "0.1",
            "a table of image, rating 1 to 5 and 20 or more features; anything else is refused",
            _TEST + "a_table_needs_twenty_features_and_ratings_of_one_to_five",
        ),
        Row(
            "0.2",
            "mean imputation, label encoding, scaling and selection, fitted on training photos alone",
            _TEST + "columns_are_prepared_as_training_photos_show_them",
        ),
        Row(
            "0.3",
            "nine models, five levels: test and train accuracy in one CSV, with the majority",
            _TEST + "nine_models_and_the_majority_stand_in_one_csv",
        ),
        Row(
            "0.4",
            "the correlation plot that explains what trees reach, and Spearman's table",
            _TEST + "correlations_find_the_feature_that_goes_with_the_rating",
        ),
        Row(
            "0.5",
            "train, val and test keep users and near-duplicates together",
            _TEST + "no_user_and_no_near_duplicate_crosses_the_splits",
        ),
        Row(
            "0.6",
            "nine frozen backbones in one table, whose weights stay as they were",
            _TEST + "a_frozen_backbone_is_the_same_after_training",
        ),
        Row(
            "0.7",
            "confusion matrix and histogram; the alarm for a level that is never said",
            _TEST + "a_collapsed_model_sets_off_the_alarm",
        ),
        Row(
            "0.8",
            "a balanced training set; val and test untouched",
            _TEST + "training_is_balanced_and_val_and_test_stay_whole",
        ),
        Row("0.9", "levels 1 and 2 are poor, 4 and 5 good, 3 is dropped", _TEST + "levels_become_sides"),
        Row(
            "0.10",
            "fine-tuning: Adam 1e-3, then RMSprop 1e-5 from its best weights",
            _TEST + "the_second_stage_starts_at_the_best_weights_of_the_first",
        ),
    ),
    models=(
        backbones.VGG16,
        backbones.MOBILENET_V2,
        backbones.INCEPTION_V3,
        backbones.RESNET50,
        backbones.INCEPTION_RESNET_V2,
        backbones.XCEPTION,
        backbones.NASNET_LARGE,
        backbones.NASNET_MOBILE,
        backbones.NEAREST_TO_NASNET_MOBILE,
        backbones.DENSENET201,
    ),
    today=(
        (
            "Predict the distribution of ratings with one head (squared earth mover's distance and a little "
            "cross-entropy): it gives the level, the mean and P(good) at once."
        ),
        "Keep detail: a square of 224 pixels hides blur and noise; train on a short side of 384 or more.",
        "Report rank correlation beside accuracy: neighbouring levels are not a full mistake.",
        "Give metadata to the report (slices), not to the model: it says who uploads, not what is in the picture.",
    ),
    run=_run,
    make=_make,
)
