"""The exported graph computes what torch computes, from raw pixels to probabilities, without shape arithmetic."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from training.errors import ExportError
from training.models.efficientnet_lite import EfficientNetLite
from training.models.head import Head
from training.models.networks import build
from training.models.resnet10 import ResNet10
from training.models.served import ServedBrand, ServedQuality, deployable, normalise
from training.publish.export import SHAPE_NODES, export
from training.publish.parity import difference, torch_engine
from training.recipes.recipe import Model
from training.serving.engines import onnxruntime_engine

WIDTHS = (8, 8, 16, 16)


def tiny_net(outputs: int) -> ResNet10:
    """An untrained net whose norms have statistics worth folding."""
    torch.manual_seed(outputs)
    net = ResNet10(outputs, WIDTHS)
    net.train()
    with torch.no_grad():
        net(torch.randn(16, 3, 96, 96))
    return net.eval()


def photos(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 96, 96, 3), np.uint8)


def served_quality() -> ServedQuality:
    return ServedQuality(deployable(tiny_net(5)), 1.3).eval()


def served_brand() -> ServedBrand:
    return ServedBrand(deployable(tiny_net(11)), 0.7).eval()


@pytest.fixture(scope="module")
def quality() -> onnx.ModelProto:
    return export(served_quality(), ("quality_score", "quality_levels"), photos(4))


@pytest.fixture(scope="module")
def brand() -> onnx.ModelProto:
    return export(served_brand(), ("brand_probs",), photos(4))


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": images}))


def test_parity_is_measured_and_tight(quality: onnx.ModelProto, brand: onnx.ModelProto) -> None:
    for served, graph in ((served_quality(), quality), (served_brand(), brand)):
        assert 0 <= difference(torch_engine(served)(photos(4)), onnxruntime_engine(graph)(photos(4))) <= 1e-5


@pytest.mark.parametrize("count", [1, 3, 64])
def test_any_batch_gives_levels_that_sum_to_one_and_their_expected_level(quality: onnx.ModelProto, count: int) -> None:
    score, levels = run(quality, photos(count))
    assert score.shape == (count, 1)
    assert levels.shape == (count, 5)
    assert np.allclose(levels.sum(1), 1, atol=1e-5)
    assert np.allclose(score[:, 0], (levels @ np.arange(1, 6) - 1) / 4, atol=1e-5)


def test_brand_probabilities_sum_to_one(brand: onnx.ModelProto) -> None:
    (probabilities,) = run(brand, photos(5))
    assert probabilities.shape == (5, 11)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)


def test_a_photos_answer_does_not_depend_on_its_batch(brand: onnx.ModelProto) -> None:
    together = run(brand, photos(6))[0]
    alone = np.concatenate([run(brand, photo[None])[0] for photo in photos(6)])
    assert np.allclose(together, alone, atol=1e-5)


def test_the_graph_takes_uint8_nhwc_and_computes_no_shapes(brand: onnx.ModelProto) -> None:
    kinds = {node.op_type for node in brand.graph.node}
    assert not kinds & SHAPE_NODES
    assert "BatchNormalization" not in kinds
    (images,) = brand.graph.input
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in images.type.tensor_type.shape.dim[1:]] == [96, 96, 3]
    assert images.type.tensor_type.shape.dim[0].dim_param
    assert brand.opset_import[0].version >= 18


def test_the_file_names_no_path_of_the_machine_that_made_it(brand: onnx.ModelProto) -> None:
    assert b"site-packages" not in brand.SerializeToString()
    assert b".py" not in brand.SerializeToString()


def test_weights_are_stored_in_half_precision(brand: onnx.ModelProto) -> None:
    large = [t for t in brand.graph.initializer if np.prod(t.dims) >= 64]
    assert large
    assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}


def test_folding_norms_changes_nothing_but_rounding() -> None:
    net = tiny_net(5)
    images = torch.from_numpy(photos(4)).permute(0, 3, 1, 2)
    with torch.no_grad():
        before, after = net(normalise(images)), deployable(net)(normalise(images))
    assert torch.allclose(before, after, atol=0.02)


def test_a_norm_that_turns_a_channel_round_is_not_folded_before_the_pool() -> None:
    net = tiny_net(5)
    with torch.no_grad():
        net.norm.weight[::2] *= -1
        images = normalise(torch.from_numpy(photos(4)).permute(0, 3, 1, 2))
        assert torch.allclose(net(images), deployable(net)(images), atol=0.02)


def test_an_export_that_differs_from_torch_is_refused() -> None:
    with pytest.raises(ExportError, match="differ by"):
        export(ServedBrand(deployable(tiny_net(11)), 1.0), ("brand_probs",), photos(2), tolerance=-1.0)


@pytest.mark.parametrize(
    "arch",
    [
        "efficientnet_lite0-stages",
        "efficientnet_lite0-blocks11-mlp16",
        "efficientnet_lite0-blocks4-inner-mlp8x3",
        "efficientnet_lite0-blocks2-mlp8x3-damage4",
    ],
)
def test_a_backbone_of_a_package_is_served_with_its_norms_folded(arch: str) -> None:
    torch.manual_seed(0)
    net = build(Model(arch=arch, pretrained="package"), 5).eval()
    head = next(module for module in net.modules() if isinstance(module, Head))
    assert head.norm.running_mean is not None
    assert head.norm.running_var is not None
    head.norm.running_mean.uniform_(-1, 1)
    head.norm.running_var.uniform_(0.1, 2)
    small = photos(2)[:, :36, :36].copy()  # 36, 18, 9, 5, 3: strides over even sides and over odd ones
    served, whole = ServedQuality(deployable(net), 1.3).eval(), torch_engine(ServedQuality(net, 1.3).eval())(small)
    assert all(torch.equal(parameter, parameter.half().float()) for parameter in served.parameters())
    assert difference(whole, torch_engine(served)(small)) <= 1e-2
    next(module for module in net.modules() if isinstance(module, EfficientNetLite)).fold()
    assert difference(whole, torch_engine(ServedQuality(net, 1.3).eval())(small)) <= 1e-5
    model = export(served, ("quality_score", "quality_levels"), small)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
