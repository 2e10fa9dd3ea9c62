"""Study 4: Open Images from the download to a report that can be rebuilt: hamburger or sandwich."""

from typing import Final

from training.studies.study import Article, Mistake, Published, Study

_NOTEBOOK: Final = "the study's notebook evaluate-model"
#: Its classification report: precision, recall and F1.
_REPORT: Final = {
    "Hamburger": (0.90, 0.59, 0.71),
    "Sandwich": (0.64, 0.92, 0.75),
    "micro avg": (0.73, 0.73, 0.73),
    "macro avg": (0.77, 0.75, 0.73),
    "weighted avg": (0.78, 0.73, 0.73),
}


STUDY: Final = Study(
    name="openimages",
    title="Open Images, end to end: hamburger or sandwich",
    article=Article(
        "How to classify photos in 600 classes using nine million Open Images",
        "Aleksey Bilogur, freeCodeCamp with Quilt",
        2019,
        "www.freecodecamp.org/news, 20 February 2019",
    ),
    origin=(
        "quiltdata/open-images: photos of two classes downloaded from Open Images V4, cut out by their boxes, told "
        "apart by a small network, with data, code and environment kept together."
    ),
    data=(
        "Open Images V4: 2018_04/class-descriptions-boxable.csv, 2018_04/train/train-annotations-bbox.csv, "
        "2018_04/train/train-images-boxable-with-rotation.csv, and images/<ImageID>.jpg (`photo-trainer "
        "fetch-openimages`); or a package of crops"
    ),
    published=(
        Published("crops of Hamburger", 1399.0, _NOTEBOOK),
        Published("crops of Sandwich", 1109.0, _NOTEBOOK),
        Published("accuracy", 0.73, f"{_NOTEBOOK}, on the photos that it was trained on"),
        *(
            Published(f"{row}, {name}", value, f"{_NOTEBOOK}, likewise")
            for row, values in _REPORT.items()
            for name, value in zip(("precision", "recall", "F1"), values, strict=True)
        ),
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
            "files whose size or MD5 is not the listed one, known hashes, redirects and bytes that several photos "
            "share are dropped too; `keep_grey` keeps grey ones",
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
    models=(),
    today=(
        "Fine-tune a pretrained network: 2,500 crops are few for weights that start at random.",
        "Download from a mirror of the data set instead of the photographers' pages: nothing is deleted there.",
        "Keep the manifest's hashes in the repository and the files in a store that is addressed by content.",
    ),
)  # fmt: skip
