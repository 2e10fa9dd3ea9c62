"""The logo in one photo: a file, or a URL where that is allowed."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training.data.download import Limits, fetch
from training.data.read import read_bytes
from training.errors import DataError, RunError
from training.models.networks import empty
from training.runs import checkpoint
from training.studies.flickrlogos32.nets import DataNorm, LogoCNN
from training.studies.flickrlogos32.views import View, cut, load

CNN = "logo-cnn"


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained network, its labels, and how it sees a photo."""

    net: nn.Module
    labels: tuple[str, ...]
    view: View


def write_classifier(path: Path, classifier: Classifier, arch: str, hidden: int) -> None:
    """Writes one file that `read_classifier` reads."""
    view = classifier.view
    seen = {"px": view.px, "resize_px": view.resize_px, "normalised": view.normalised}
    state = {name: value.cpu() for name, value in classifier.net.state_dict().items()}
    normed = isinstance(classifier.net, DataNorm)
    content = {"arch": arch, "hidden": hidden, "data_norm": normed, "labels": list(classifier.labels), "view": seen}
    content["state_dict"] = state
    checkpoint.write(path, content)


def read_classifier(path: Path) -> Classifier:
    """Reads a file of `write_classifier`.

    Raises:
        RunError: The file is missing or not such a file.
    """
    content = checkpoint.read(path)
    try:
        labels, view = tuple(content["labels"]), View(**content["view"])
        cnn = content["arch"] == CNN
        net = LogoCNN(len(labels), view.px, content["hidden"]) if cnn else empty(content["arch"], len(labels))
        net = DataNorm(net) if content["data_norm"] else net
        net.load_state_dict(content["state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{path} is not a classifier of this study: {error}") from None
    return Classifier(net.eval(), labels, view)


@dataclass(frozen=True, slots=True)
class Answer:
    """The most probable label of a photo."""

    label: str
    probability: float

    @property
    def line(self) -> str:
        """In the format of the study."""
        return f"With prob={self.probability:.4f}, {self.label}"


def classify_logo(source: str, classifier: Classifier, limits: Limits | None = None) -> Answer:
    """The logo in a photo.

    Args:
        source: A path, or an http(s) URL.
        classifier: The network.
        limits: Bounds of a download; without them no URL is fetched.

    Raises:
        DataError: A URL, and downloads are not allowed.
        Unreadable: The photo is missing or broken.
    """
    if source.startswith(("http://", "https://")):
        if limits is None:
            raise DataError(f"{source} is a URL; allow it with --allow-url")
        body = fetch(source, limits)
    else:
        body = read_bytes(source)
    pixels = torch.from_numpy(cut(load(body, classifier.view), classifier.view.px).copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        shares = torch.softmax(classifier.net(classifier.view.tensor(pixels))[0], 0)
    best = int(shares.argmax())
    return Answer(classifier.labels[best], float(shares[best]))
