"""Study 4: Open Images from the download to a report that can be rebuilt: hamburger or sandwich."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.studies.study import Mistake, Options, Published, Result, Row, Study

if TYPE_CHECKING:
    from rich.console import Console

_NOTEBOOK: Final = "the study's notebook evaluate-model"
_TEST: Final = "tests/unit/training/studies/test_openimages.py::test_"


def _run(options: Options, console: "Console") -> Result:
    from training.studies.openimages.run import run  # noqa: PLC0415 - torch takes seconds, --list must not

    return run(options, console)


def _make(folder: Path, seed: int) -> None:
    from training.studies.openimages.made import make  # noqa: PLC0415 - as above

    make(folder, seed)


STUDY: Final = Study(
    name="openimages",
    title="Open Images, end to end: hamburger or sandwich",
    origin=(
        "quiltdata/open-images: photos of two classes downloaded from Open Images V4, cut out by their boxes, told "
        "apart by a small network, with data, code and environment kept together."
    ),
    data=(
        "Open Images V4: class-descriptions-boxable.csv, train-annotations-bbox.csv, "
        "train-images-boxable-with-rotation.csv, and images/<ImageID>.jpg (`photo-trainer fetch-openimages`)"
    ),
    published=(
        Published("crops of Hamburger", 1399.0, _NOTEBOOK),
        Published("crops of Sandwich", 1109.0, _NOTEBOOK),
        Published("accuracy", 0.73, f"{_NOTEBOOK}, on the photos that it was trained on"),
        Published("Hamburger, precision", 0.90, f"{_NOTEBOOK}, likewise"),
        Published("Hamburger, recall", 0.59, f"{_NOTEBOOK}, likewise"),
        Published("Sandwich, precision", 0.64, f"{_NOTEBOOK}, likewise"),
        Published("Sandwich, recall", 0.92, f"{_NOTEBOOK}, likewise"),
        Published("epochs", 17.0, f"{_NOTEBOOK}: the best was the 13th"),
    ),
    mistakes=(
        Mistake(
            "reported on training photos",
            "trains, stops early and reports on one and the same folder: 0.73 is accuracy on photos it has learned",
            "photos are split by photo into train, val and test; the report is on test",
        ),
        Mistake(
            "last weights instead of the best",
            "stops four epochs after the best, and keeps the weights of the last",
            "the best epoch's weights are restored",
        ),
        Mistake(
            "grey is taken for deleted",
            "drops pictures of one channel as placeholders of deleted photos, and no others",
            "known hashes, redirects and bytes that several photos share are dropped too; `keep_grey` keeps grey ones",
        ),
        Mistake(
            "nearest pixel",
            "shrinks crops to 128 pixels by taking the nearest pixel, which breaks fine structure",
            "crops are shrunk with a filter",
        ),
        Mistake(
            "boxes of many objects",
            "takes boxes around groups and of drawings for objects",
            "both are left out",
        ),
    ),
    rows=(
        Row("3.1", "download by class from the three lists: 5 requests in 5 s, retried, resumed",
            _TEST + "photos_of_the_classes_are_downloaded_with_pace_retry_and_resume"),
        Row("3.2", "placeholders of deleted photos are dropped: single channel, and a hash list",
            _TEST + "placeholders_are_dropped_by_channel_hash_and_repetition"),
        Row("3.3", "crops by box are exact to the pixel; montage, box overlay, tree of classes",
            _TEST + "a_crop_holds_exactly_the_pixels_of_its_box"),
        Row("3.4", "the study's random changes, 128 pixels, batches of 16",
            _TEST + "training_changes_photos_by_the_studys_values"),
        Row("3.5", "the study's network and optimiser", _TEST + "the_network_has_the_studys_layers_and_parameters"),
        Row("3.6", "at most 50 epochs, stopped 4 after the best loss on val; the best is restored",
            _TEST + "training_stops_four_epochs_after_the_best_and_restores_it"),
        Row("3.7", "classification report on held-out photos; as published on those of training, and said so",
            _TEST + "the_report_is_on_held_out_photos_unless_as_published"),
        Row("3.8", "a manifest of data, code and environment; rebuilt in at most four commands, with equal metrics",
            _TEST + "a_rebuild_has_the_same_manifest_to_the_bit_and_equal_metrics"),
    ),
    models=(),
    today=(
        "Fine-tune a pretrained network: 2,500 crops are few for weights that start at random.",
        "Download from a mirror of the data set instead of the photographers' pages: nothing is deleted there.",
        "Keep the manifest's hashes in the repository and the files in a store that is addressed by content.",
    ),
    run=_run,
    make=_make,
)  # fmt: skip
