"""Breaks of study flickrlogos32."""

from typing import Final

from tests.unit.training.studies.mutants.breaks import Break

_TESTS: Final = "tests/unit/training/studies/test_flickrlogos32.py::"
_DATA, _NETS = "training.studies.flickrlogos32.data", "training.studies.flickrlogos32.nets"
_CLASSIFY, _VARIANTS = "training.studies.flickrlogos32.classify", "training.studies.flickrlogos32.variants"
_VIEWS, _FIT = "training.studies.flickrlogos32.views", "training.studies.fit"
_EXAMPLES, _BRANDS = "training.studies.flickrlogos32.examples", "training.data.brands"
_SHAKEN: Final = _TESTS + "test_training_views_are_cut_and_mirrored_at_random"
_RAW: Final = _TESTS + "test_raw_pixels_make_the_first_loss_of_the_studys_network_large_and_normalised_ones_do_not"
_AFTER: Final = _TESTS + "test_accuracy_on_train_is_evaluated_after_the_epoch"
_WEIGHTS: Final = _TESTS + "test_weights_make_every_label_count_alike"
_WITHOUT: Final = _TESTS + "test_without_no_logo_training_never_sees_one"
_NORMED: Final = _TESTS + "test_as_published_transfer_begins_with_a_batch_norm_of_the_pixels"
_XAVIER: Final = _TESTS + "test_the_new_output_layer_begins_with_the_studys_xavier_weights"
_SINGLE: Final = _TESTS + "test_the_articles_two_brands_are_taken_where_the_data_have_them"

BREAKS: Final = (
    Break("1.1", "val without its logos", _BRANDS, '    "valset-logosonly.relpaths.txt": VAL,\n', ""),
    Break("1.2", "a third of them trains", _BRANDS, "len(lines) * source.no_logo_to_train", "len(lines) * 0.33"),
    Break("1.3", "arranged anew every time", _DATA, "st_size == Path(", "st_size != Path("),
    Break("1.4", "as published the photo is resized", _VIEWS, "View(px, None, norm", "View(px, resize_px, norm"),
    Break("1.4", "pixels of 0 to 1", _VIEWS, "pixels.float()", "pixels.float() / 255"),
    Break("1.4", "never mirrored", _VIEWS, "chance[2] < 0.5", "chance[2] < 0", _SHAKEN),
    Break("1.4", "always the corner", _VIEWS, "round(share * (length", "round(0 * share * (length", _SHAKEN),
    Break("1.5", "three epochs", _VARIANTS, "epochs: int = 20", "epochs: int = 3"),
    Break("1.5", "batches of 8", _VARIANTS, "batch: int = 40", "batch: int = 8"),
    Break("1.5", "rate 0.5", _VARIANTS, "rate: float = 0.01", "rate: float = 0.5"),
    Break("1.5", "weight decay 0.1", _VARIANTS, "weight_decay: float = 1e-3", "weight_decay: float = 0.1"),
    Break("1.5", "Adam instead of SGD", _VARIANTS, "torch.optim.SGD(", "torch.optim.Adam("),
    Break("1.5", "momentum", _VARIANTS, "settings.rate, weight_decay", "settings.rate, 0.9, weight_decay"),
    Break("1.5", "Xavier of magnitude 3", _NETS, "_MAGNITUDE: Final = 2.24", "_MAGNITUDE: Final = 3"),
    Break("1.5", "64 channels first", _NETS, "_FIRST, _SECOND = 96, 192", "_FIRST, _SECOND = 64, 192"),
    Break("1.5", "raw pixels are normalised", _VIEWS, "None, normalised=False", "None, normalised=True", _RAW),
    Break("1.5", "train is judged on the way", _VARIANTS, "train_after=True", "train_after=False", _AFTER),
    Break("1.6", "worse epochs' files stay", _FIT, "if old != path:", "if old == path:"),
    Break("1.6", "the last epoch is the best", _FIT, "epoch.accuracy[VAL] > best.accuracy[VAL]", "True"),
    Break("1.7", "the last layer alone trains all", _VARIANTS, "options, variant.trainable)", "options)"),
    Break("1.7", "no batch norm of the pixels", _VARIANTS, "DataNorm(net) if options", "net if options", _NORMED),
    Break("1.7", "the library's first weights", _VARIANTS, "    xavier(head_of(net)[1])\n", "", _XAVIER),
    Break("1.8", "URLs without leave", _CLASSIFY, "limits: Limits | None = None", "limits: Limits | None = Limits()"),
    Break("1.8", "another label's probability", _CLASSIFY, "float(shares[best])", "float(shares.min())"),
    Break("1.9", "rare labels weigh less", _VARIANTS, "len(labels) / (there", "1 / (there", _WEIGHTS),
    Break("1.9", "no-logo is trained on", _VARIANTS, "pictures.labels != no_logo", "pictures.labels >= 0", _WITHOUT),
    Break(
        "1.10",
        "recall over all photos",
        _VARIANTS,
        "_share((predicted == labels)[branded])",
        "_share(predicted == labels)",
        _TESTS + "test_a_score_counts_what_most_photos_hide",
    ),
    Break("1.10", "both networks are one", _EXAMPLES, "trained[TRANSFER].prob", "trained[BASELINE].prob", _SINGLE),
)
