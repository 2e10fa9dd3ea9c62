"""A head behind its backbone as one served graph: uint8 photos in, a quality score and five levels out.

A binary head gives P(good). The served score is that probability, and the levels are the two whole levels around
1 + 4 x P(good), weighted so that their mean is exactly that. A head of five classes gives the levels themselves.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose
from torch import Tensor, nn

from training.data.photos import LEVELS
from training.errors import ExportError
from training.heads.features import Backbone
from training.heads.graph import FEATURES, Sketch, probabilities
from training.models.served import PIXEL_DEVIATION, PIXEL_MEAN
from training.publish.export import check_graph, export

SCORE, LEVELS_OUT = "quality_score", "quality_levels"
SPREAD: Final = (
    "The head knows two sides, poor and good. The score is P(good); the five levels are a linear interpolation: the "
    "two whole levels around 1 + 4 x P(good), weighted so that the expected level is exactly that."
)
_SHOWN: Final = 8


class ServedFeatures(nn.Module):
    """uint8 [N, H, W, 3] to features float32 [N, width]: normalisation, then the frozen backbone."""

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(PIXEL_DEVIATION).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features of raw pixels."""
        pixels = images.float().permute(0, 3, 1, 2)
        return torch.flatten(self.net((pixels - self.mean) * self.scale), 1)


def quality_of(shares: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score [N, 1] and levels [N, 5] of a head's probabilities [N, 2 or 5], as the served graph computes them."""
    steps = np.arange(len(LEVELS), dtype=np.float64)
    if shares.shape[1] == len(LEVELS):
        return shares @ steps.reshape(-1, 1) / steps[-1], np.asarray(shares, np.float64)
    score = np.asarray(shares[:, 1:], np.float64)
    return score, np.maximum(0.0, 1 - np.abs(score * steps[-1] - steps))


def quality_graph(estimator: Any, width: int) -> onnx.ModelProto:  # noqa: ANN401 - scikit-learn ships no types
    """The graph from features [N, width] to `quality_score` [N, 1] and `quality_levels` [N, 5].

    Raises:
        ExportError: The classifier has no graph, or is neither of two classes nor of five.
    """
    steps, count = np.arange(len(LEVELS), dtype=np.float64), len(estimator.classes_)
    if count not in {2, len(LEVELS)}:
        raise ExportError(
            f"a head of {count} classes cannot be a quality model: it needs two (poor, good) or the five levels"
        )
    sketch = Sketch()
    shares = probabilities(sketch, estimator, FEATURES, width)
    if count == len(LEVELS):
        sketch.node("Identity", shares, to=LEVELS_OUT)
        sketch.node("MatMul", shares, sketch.constant(steps.reshape(-1, 1) / steps[-1]), to=SCORE)
    else:
        sketch.node("MatMul", shares, sketch.constant(np.array([[0.0], [1.0]])), to=SCORE)
        place = sketch.matmul(SCORE, np.full((1, len(LEVELS)), steps[-1]))
        apart = sketch.node("Abs", sketch.node("Sub", place, sketch.constant(steps)))
        sketch.node("Relu", sketch.node("Sub", sketch.constant(1.0), apart), to=LEVELS_OUT)
    return sketch.model(width, {SCORE: 1, LEVELS_OUT: len(LEVELS)})


def joined(source: Backbone, head: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """Backbone and head as one graph that takes raw pixels.

    Args:
        source: The frozen network that the head was trained on.
        head: What `quality_graph` made.
        images: uint8 [N, S, S, 3], to compare the backbone's graph with torch on.

    Raises:
        ExportError: They differ, or the network leaves nodes in the graph that must not be served.
    """
    net = ServedFeatures(source.net.to("cpu").to(memory_format=torch.contiguous_format)).eval()
    backbone = export(net, (FEATURES,), images[:_SHOWN], tolerance=_feature_tolerance(net, images[:_SHOWN]))
    second = compose.add_prefix(head, "head.", rename_inputs=False, rename_outputs=False)
    second.ir_version = backbone.ir_version
    made = compose.merge_models(backbone, second, io_map=[(FEATURES, FEATURES)])
    made.graph.name = "head_on_backbone"
    check_graph(made)
    return made


@torch.no_grad()
def _feature_tolerance(net: Callable[[Tensor], Tensor], images: NDArray[np.uint8]) -> float:
    """A ten-thousandth of the largest feature."""
    return float(net(torch.from_numpy(images)).abs().max()) * 1e-4 + 1e-6
