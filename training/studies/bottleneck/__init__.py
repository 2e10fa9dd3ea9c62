"""Study 3: bottleneck features of three large networks, and what fine-tuning adds, on dog breeds."""

from typing import Final

from training.studies.backbones import INCEPTION_RESNET_V2, INCEPTION_V3, RESNET50, XCEPTION
from training.studies.study import Article, Mistake, Published, Study

_POST: Final = "the study's post"


STUDY: Final = Study(
    name="bottleneck",
    title="Bottleneck features: dog breeds",
    article=Article(
        "Dogs Breeds Classification with Keras",
        "Ilia Zaitsev (devforfu)",
        2018,
        "medium.com/@iliazaitsev/dogs-breeds-classification-with-keras-b1fd0ab5e49c, 9 April 2018",
    ),
    origin=(
        "Ilia Zaitsev, Dogs Breeds Classification with Keras (2018): features of networks trained on ImageNet, a "
        "bagged linear classifier on them, then fine-tuning, on the photos of a Kaggle competition."
    ),
    data="Dog Breed Identification: labels.csv (id, breed) beside train/<id>.jpg; or folders of photos named by class",
    published=(
        Published("classes", 120.0, _POST),
        Published("train photos", 9200.0, _POST),
        Published("val photos", 1022.0, _POST),
        Published("photos of a class", "59; 10,222 photos of 120 classes are 85", _POST),
    ),
    mistakes=(
        Mistake(
            "photos of a class miscounted",
            "says that a class has 59 photos on average; 10,222 photos of 120 classes are 85",
            "the histogram shows the counts, and the page the mean",
        ),
        Mistake(
            "nearly equal photos on both sides",
            "splits at random, so that copies of a photo can be trained and validated on",
            "a training photo that is nearly equal to one of val is left out, and counted",
        ),
        Mistake(
            "the classes are ImageNet's",
            "the networks were trained on ImageNet, which the photos and the breeds are from: val is no unseen data",
            "cannot be corrected with these weights; the page and the model's card say it as a known bias",
        ),
    ),
    models=(INCEPTION_V3, INCEPTION_RESNET_V2, XCEPTION, RESNET50),
    today=(
        "Features of a self-supervised or image-text network, which no breed's label has touched, and a linear probe.",
        "Logistic regression on standardised features, its one strength chosen on val, measured beside the bag.",
        "Report on photos newer than the weights; say for each class whether the weights have seen its label.",
    ),
)  # fmt: skip
