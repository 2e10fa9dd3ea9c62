"""Networks that benchmarks of serving measure, and photos for them. Random weights are as fast as others."""

import numpy as np
import onnx
import torch
from sklearn.datasets import load_sample_images

from training.models.networks import empty
from training.models.served import ServedBrand, deployable
from training.publish.export import export
from training.publish.precisions import plain_weights, rounded, stored_small

LABELS = (*(f"brand-{index}" for index in range(10)), "no_logo")
#: By name: the network as recipes name it, and its input's side in px.
NETWORKS = {
    "resnet10 96 px": ("resnet10", 96),
    "lite0 160 px": ("efficientnet_lite0-stages", 160),
    "lite0 224 px": ("efficientnet_lite0-stages", 224),
    "resnet18 224 px": ("resnet18", 224),
    "resnet50 224 px": ("resnet50", 224),
}


def photos(side: int, count: int = 64) -> np.ndarray:
    """Cuts of two real photos, uint8 [count, side, side, 3]."""
    rng = np.random.default_rng(0)
    pictures = load_sample_images().images
    cuts = []
    for index in range(count):
        picture = pictures[index % 2]
        top, left = (int(rng.integers(0, picture.shape[axis] - side)) for axis in (0, 1))
        cuts.append(picture[top : top + side, left : left + side])
    return np.stack(cuts)


def exported(name: str) -> onnx.ModelProto:
    """The float32 graph of a network, as a version holds it."""
    torch.manual_seed(0)
    arch, side = NETWORKS[name]
    served = ServedBrand(deployable(empty(arch, len(LABELS))), 1.0)
    return stored_small(rounded(plain_weights(export(served, ("brand_probs",), photos(side, 4)))))
