"""Breaks of study bottleneck."""

from typing import Final

from tests.unit.training.studies.mutants.breaks import Break

_TESTS: Final = "tests/unit/training/studies/test_bottleneck.py::"
_DATA, _HEADS, _RUN = (f"training.studies.bottleneck.{name}" for name in ("data", "heads", "run"))
_FEATURES, _REPORT = "training.heads.features", "training.studies.bottleneck.report"
_WORTH: Final = _TESTS + "test_worth_is_log_loss_and_accuracy_of_both_sides"
_FLAG: Final = _TESTS + "test_a_flag_is_for_what_almost_no_photo_of_val_gets"
_FIVE: Final = _TESTS + "test_guesses_are_the_five_most_probable_classes_best_first"

_NAMED: Final = _TESTS + "test_a_cache_is_named_by_network_weights_and_photos"

BREAKS: Final = (
    Break("2.1", "a fifth validates", _DATA, "_VAL_SHARE: Final = 0.1", "_VAL_SHARE: Final = 0.2"),
    Break("2.1", "not stratified", _DATA, "stratify=labels, random_state", "random_state"),
    Break("2.1", "another split every time", _DATA, "random_state=seed", "random_state=None"),
    Break("2.2", "begins anew", _FEATURES, "part.is_file() and count.is_file() else 0", "part.is_dir() else 0"),
    Break(
        "2.2",
        "a photo is passed over",
        _FEATURES,
        "range(done, len(photos), batch)",
        "range(done + 1, len(photos), batch)",
    ),
    Break(
        "2.3",
        "weights do not name a cache",
        _FEATURES,
        "{source.arch} {source.weights_sha256} {",
        "{source.arch} {",
        _NAMED,
    ),
    Break(
        "2.3",
        "the network does not name it",
        _FEATURES,
        "{source.arch} {source.weights_sha256} {",
        "{source.weights_sha256} {",
        _NAMED,
    ),
    Break("2.4", "threshold 0.01", _HEADS, "wanted: float = VARIANCE", "wanted: float = 0.01"),
    Break("2.4", "hinge loss", _HEADS, 'loss="log_loss"', 'loss="hinge"'),
    Break("2.4", "plain L2", _HEADS, 'penalty="elasticnet"', 'penalty="l2"'),
    Break("2.4", "alpha 1", _HEADS, "alpha=1 / photos", "alpha=1.0"),
    Break("2.4", "an intercept", _HEADS, "fit_intercept=False", "fit_intercept=True"),
    Break("2.4", "not balanced", _HEADS, 'class_weight="balanced",', ""),
    Break("2.4", "all photos in each bag", _HEADS, "max_samples=0.5", "max_samples=1.0"),
    Break("2.4", "all features in each bag", _HEADS, "max_features=0.5", "max_features=1.0"),
    Break("2.4", "features without replacement", _HEADS, "bootstrap_features=True", "bootstrap_features=False"),
    Break("2.4", "five members", _HEADS, "members: int = MEMBERS", "members: int = 5"),
    Break("2.5", "a bag is a single one", _HEADS, "seed, members) if bag", "seed, 1) if bag"),
    Break(
        "2.5",
        "losses of train on both sides",
        _HEADS,
        "(sides.val, sides.val_labels))",
        "(sides.train, sides.train_labels))",
        _WORTH,
    ),
    Break("2.6", "rate 0.5", _RUN, "RATE, MOMENTUM = 1e-3, 0.99", "RATE, MOMENTUM = 0.5, 0.99"),
    Break("2.6", "momentum 0.9", _RUN, "RATE, MOMENTUM = 1e-3, 0.99", "RATE, MOMENTUM = 1e-3, 0.9"),
    Break("2.6", "no Nesterov", _RUN, "nesterov=True", "nesterov=False"),
    Break("2.6", "three epochs", _RUN, "epochs: int = 100", "epochs: int = 3"),
    Break("2.6", "batches of 8", _RUN, "batch: int = 128", "batch: int = 8"),
    Break("2.6", "no rotation and no zoom", _RUN, "rotation_deg=30, shift=0.2, zoom=0.2", "shift=0.2"),
    Break("2.6", "all layers by default", _RUN, 'trainable: str = "head"', 'trainable: str = "all"'),
    Break("2.7", "the least probable five", _HEADS, "np.argsort(-shares", "np.argsort(shares", _FIVE),
    Break("2.7", "four guesses", _HEADS, "_TOP: Final = 5", "_TOP: Final = 4", _FIVE),
    Break(
        "2.7", "half of val is flagged", _HEADS, "_FLAGGED_SHARE: Final = 0.05", "_FLAGGED_SHARE: Final = 0.5", _FLAG
    ),
    Break("2.8", "random weights for pretrained ones", _REPORT, "return IMAGENET_BIAS", "return RANDOM_BIAS"),
)
