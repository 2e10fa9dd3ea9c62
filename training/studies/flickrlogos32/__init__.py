"""Study 2: which logo is in a photo, on FlickrLogos-32."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.studies.backbones import RESNET18, RESNET18_V2
from training.studies.study import Mistake, Options, Published, Result, Row, Study

if TYPE_CHECKING:
    from rich.console import Console

_README: Final = "the study's readme"
_TEST: Final = "tests/unit/training/studies/test_flickrlogos32.py::test_"


def _run(options: Options, console: "Console") -> Result:
    from training.studies.flickrlogos32.run import run  # noqa: PLC0415 - torch takes seconds, --list must not

    return run(options, console)


def _make(folder: Path, seed: int) -> None:
    from training.studies.flickrlogos32.data import make  # noqa: PLC0415 - as above

    make(folder, seed)


STUDY: Final = Study(
    name="flickrlogos32",
    title="Logos in photos: FlickrLogos-32",
    origin=(
        "A bootcamp project that classifies the 32 logos and no-logo of FlickrLogos-32 with a small network of its own "
        "and with a pretrained ResNet-18 v2, in Apache MXNet Gluon."
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
        Published("transfer, logo recall", "at most 0.36", "follows from 0.84 (rounded) and 3000 of 3960 without logo"),
    ),
    mistakes=(
        Mistake(
            "crop without resize",
            "cuts 224 pixels out of the raw photo, where the logo often is not; the text says that photos are resized",
            "the short side is resized to 256 before the cut of 224",
        ),
        Mistake(
            "no normalisation",
            "feeds pixels as 0..1 to a network whose weights expect normalised channels",
            "channels are normalised with ImageNet's statistics",
        ),
        Mistake(
            "head only that is not",
            "says that only the new last layer is trained, and passes every parameter to the optimiser",
            "both are trained, each under its name",
        ),
        Mistake(
            "accuracy alone",
            "reports accuracies that equal the share of no-logo photos, which a model that looks at nothing reaches",
            "always-no-logo, logo recall and the false positive rate stand beside every accuracy, in every mode",
        ),
    ),
    rows=(
        Row("1.1", "the four list files are read; 320, 960, 3000 and 3960 photos, 33 classes",
            _TEST + "the_four_lists_of_the_full_set_hold_8240_photos_of_33_classes"),
        Row("1.2", "half of the no-logo photos of val train: 1820, 2460, 3960",
            _TEST + "half_of_vals_photos_without_logo_train"),
        Row("1.3", "{train,val,test}_data/<class>/, and again without harm",
            _TEST + "arranging_twice_is_arranging_once"),
        Row("1.4", "flip and crop of 224 in training, centre crop else; raw as published, resized first by default",
            _TEST + "as_published_a_crop_is_raw_and_by_default_it_is_resized_first"),
        Row("1.5", "the study's own network: layers, parameters, Xavier 2.24, a line for each epoch",
            _TEST + "the_studys_network_has_its_shapes_its_parameters_and_its_first_weights"),
        Row("1.6", "only the best checkpoint on val is kept", _TEST + "only_the_best_checkpoint_is_kept_and_it_loads"),
        Row("1.7", "transfer with the last layer alone, and with all parameters",
            _TEST + "head_only_trains_the_last_layer_and_the_other_variant_all"),
        Row("1.8", "classify_logo of a file, of a URL when opted in, within limits",
            _TEST + "classify_logo_names_the_brand_of_a_file_and_of_a_url_that_is_opted_in"),
        Row("1.9", "remedies: weighted loss; training without no-logo and rejection of low scores",
            _TEST + "both_remedies_stand_in_the_table_of_all_variants"),
        Row("1.10", "published figures with the always-no-logo baseline and logo recall beside every accuracy",
            _TEST + "the_page_shows_published_figures_beside_the_baseline_and_logo_recall"),
    ),
    models=(RESNET18_V2, RESNET18),
    today=(
        "Start from weights trained on image-text pairs, or at least on ImageNet: ten photos a brand teach little.",
        "Take the right photos without logo, look-alikes above all: they decide the false positive rate.",
        "Sample brands evenly and choose the threshold on val for a target precision, as the recipe `brands-cpu` does.",
        "Detect, then classify, where logos are small: the whole photo at 224 pixels leaves some of them five wide.",
    ),
    run=_run,
    make=_make,
)  # fmt: skip
