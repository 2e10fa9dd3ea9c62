"""Study 1: grades of photos, from metadata and from pictures."""

from typing import Final

from training.studies import backbones
from training.studies.study import Mistake, Published, Study

_ARTICLE: Final = "the study's article; its tables are pictures that were lost"


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
)
