"""Study 2: which logo is in a photo, on FlickrLogos-32."""

from typing import Final

from training.studies.backbones import RESNET18, RESNET18_V2
from training.studies.study import Article, Mistake, Published, Study

_README: Final = "the study's readme"
_PHOTO: Final = "the article's classify_logo"
_ANOTHER: Final = "another photo of the brand"


STUDY: Final = Study(
    name="flickrlogos32",
    title="Logos in photos: FlickrLogos-32",
    article=Article(
        "Logo detection using Apache MXNet",
        "Tuhin Sharma and Bargava Subramanian, O'Reilly",
        2018,
        "www.oreilly.com/ideas/logo-detection-using-apache-mxnet, 1 February 2018",
    ),
    origin=(
        "An article on finding brands in the photos that celebrities post: a small network of its own and a pretrained "
        "ResNet-18 v2, in Apache MXNet Gluon, tell the 32 logos of FlickrLogos-32 and no-logo apart."
    ),
    data=(
        "FlickrLogos-32: trainset, valset-logosonly, valset-nologos and testset.relpaths.txt beside classes/jpg/<brand>"
    ),
    published=(
        Published("baseline CNN, val accuracy", 0.61, _README),
        Published("baseline CNN, test accuracy", 0.76, _README),
        Published("transfer, val accuracy", 0.75, _README),
        Published("transfer, test accuracy", 0.84, _README),
        Published("always no-logo, val accuracy", 1500 / 2460, "the list files: 1500 of 2460 photos show no logo"),
        Published("always no-logo, test accuracy", 3000 / 3960, "the list files: 3000 of 3960 photos show no logo"),
        Published("baseline CNN, loss of the first epoch", "near 50", "the article: pixels are 0 to 255"),
        Published("BMW photo, probability after transfer", 0.983, _PHOTO, _ANOTHER),
        Published("BMW photo, probability before transfer", "not known here", _PHOTO, _ANOTHER),
        Published("Foster's photo, probability after transfer", 0.498, _PHOTO, _ANOTHER),
        Published("Foster's photo, probability before transfer", "not known here", _PHOTO, _ANOTHER),
        Published("transfer, logo recall", "at most 0.36", "follows from 0.84 (rounded) and 3000 of 3960 without logo"),
    ),
    mistakes=(
        Mistake(
            "crop without resize",
            "cuts 224 pixels out of the raw photo, where the logo often is not; the text says that photos are resized",
            "the short side is resized to 256 before the cut of 224",
        ),
        Mistake(
            "pixels of 0 to 255 in a network without a norm",
            "feeds raw pixels to its own network, whose first weights are for values near 1: the first loss is near 50 "
            "instead of ln 33 = 3.5; its pretrained network begins with a batch norm of the pixels and is not harmed",
            "channels are normalised with ImageNet's statistics for both networks, and the batch norm is not needed",
        ),
        Mistake(
            "a last layer that is not trained alone",
            "says that only the new last layer is trained, and passes every parameter to the optimiser",
            "both are trained, each under its name",
        ),
        Mistake(
            "accuracy alone",
            "reports accuracies that equal the share of no-logo photos, which a model that looks at nothing reaches",
            "always-no-logo, logo recall and the false positive rate stand beside every accuracy, in every mode",
        ),
    ),
    models=(RESNET18_V2, RESNET18),
    today=(
        "Start from weights trained on image-text pairs, or at least on ImageNet: ten photos a brand teach little.",
        "Take the right photos without logo, look-alikes above all: they decide the false positive rate.",
        "Sample brands evenly and choose the threshold on val for a target precision, as the recipe `brands-cpu` does.",
        "Detect, then classify, where logos are small: the whole photo at 224 pixels leaves some of them five wide.",
    ),
)  # fmt: skip
