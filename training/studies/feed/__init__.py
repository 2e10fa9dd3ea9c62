"""Study 5: which uploads are good enough for the feed."""

from typing import Final

from training.studies import backbones
from training.studies.study import Article, Mistake, Published, Study

_ARTICLE: Final = "the study's article"


STUDY: Final = Study(
    name="feed",
    title="Choosing photos for the feed",
    article=Article("", "a team that chooses photos for a feed by transfer learning with ResNet-50 and SVMs"),
    origin=(
        "An article of a team that chooses users' photos for the feed of an app: a frozen ResNet-50 with a new last "
        "layer, then features with PCA and an SVM, then a one-class SVM, and at last operators who judge what it picks."
    ),
    data=(
        "photos that operators took (good/) and did not take (poor/) for the feed, in two folders; or ratings.csv with "
        "image, rating 1..5 and optionally user"
    ),
    published=(
        Published("frozen network, new last layer, test accuracy", 0.82, _ARTICLE),
        Published("frozen network, CPU minutes", "under 60", _ARTICLE),
        Published("picked by the model in the live trial", 85 / 2000, "85 of 2,000 live photos"),
        Published("usable share of the picks", 0.50, "operators: about half"),
        Published("share of the picks in context", 0.25, "operators: about a quarter"),
    ),
    mistakes=(
        Mistake(
            "PCA on everything",
            "fits the PCA on training and test photos together, then divides them",
            "PCA is a step of the pipeline, fitted on training photos alone",
        ),
        Mistake(
            "gamma chosen on the reported photos",
            "sweeps gamma of the one-class SVM by the ROC of the very photos that are reported",
            "gamma is chosen on val; test is looked at once",
        ),
        Mistake(
            "accuracy for a rare class",
            "reports accuracy on chosen photos, while few live ones are good enough: half of the picks were unusable",
            "precision of the picks stands beside accuracy, and the live trial measures it blind, with an interval",
        ),
    ),
    models=(backbones.RESNET50,),
    today=(
        "Ask the operators first: two questions and fifty photos, blind, tell more than an accuracy on chosen ones.",
        "Choose the threshold for a precision on val, not the middle.",
        "Fine-tune: frozen features of ImageNet know what is in a picture, not how good it is.",
        "Take features of an image-text model; they order photos by quality far better than a ResNet-50's.",
    ),
)
