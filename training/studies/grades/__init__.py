"""Study 1: grades of photos, from metadata and from pictures."""

from typing import Final

from training.studies import backbones
from training.studies.study import Article, Mistake, Published, Study

_ARTICLE: Final = "the article, whose tables are pictures that were lost"
_LOST: Final = "lost"
_NETWORK: Final = "InceptionV3 there"


STUDY: Final = Study(
    name="grades",
    title="Photo grades: metadata, then pictures",
    article=Article(
        "Using Neural Nets to learn the best images to discover a new local establishment",
        "magicpin Engineering",
        2018,
        "magicpineng.medium.com, 26 June 2018",
    ),
    origin=(
        "An engineering article of 2018: a place-discovery app rates its users' photos 1 to 5, first with classical "
        "models on metadata, then with pretrained convolutional networks."
    ),
    data=(
        "rated photos (one million, later one and a half): ratings.csv with image, rating 1..5, optionally user, and "
        "columns of metadata (time, date, place, ...), which stand beside those that the photos' files bring along"
    ),
    published=(
        Published("best tree on metadata, 5 levels, test accuracy", 0.40, f"{_ARTICLE}; about 40 % for trees"),
        Published("frozen network, 5 levels as they come, test accuracy", _LOST, _ARTICLE, _NETWORK),
        Published("frozen network, 5 levels as they come, macro recall", "not published", "", _NETWORK),
        Published("fine-tuned, Adam 1e-3, test accuracy", _LOST, _ARTICLE, _NETWORK),
        Published("fine-tuned, then RMSprop 1e-5, test accuracy", _LOST, _ARTICLE, _NETWORK),
    ),
    mistakes=(
        Mistake(
            "accuracy alone",
            "a network that says one level for every photo reaches that level's share; the article found it in a "
            "confusion matrix only",
            "majority baseline, macro recall and an alarm for levels that are never said, in every mode",
        ),
    ),
    left_open=(
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
        "What it is for, the best photos of a place without naming a brand: `photo-tagger find` on the service's tags.",
        "Give metadata to the report (slices), not to the model: it says who uploads, not what is in the picture.",
    ),
)
