"""The int8 graph takes pixels as they are, decides as fp32 does on every CPU, and runs on memory that Triton lends."""

import functools
import importlib
import platform
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from training.models.networks import Renormalised
from training.models.resnet10 import ResNet10
from training.models.served import ServedBrand, deployable
from training.publish.export import export
from training.publish.int8 import pair_sums, to_int8
from training.serving.engines import ENGINES, outputs_of, outputs_on_avx2
from training.serving.files import INT8_FILE

LABELS = 7


def photos(count: int) -> np.ndarray:
    """Photos of coarse colours, uint8 NHWC: noise would average out to the same grey everywhere."""
    coarse = np.random.default_rng(count).integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


def net(renormalised: bool = False) -> nn.Module:
    """An untrained net whose norms have seen photos."""
    torch.manual_seed(3)
    inner = ResNet10(LABELS, (8, 8, 16, 16))
    inner.train()
    with torch.no_grad():
        for _ in range(20):
            inner(torch.randn(16, 3, 96, 96))
    made = Renormalised(inner, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) if renormalised else inner
    return made.eval()


class Staged(nn.Module):
    """Convolutions of every kind, and a head that sees means and deviations between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 1)
        self.depthwise, self.narrow = nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(24, LABELS)
        with torch.no_grad():  # of one sign, so that full bytes would overflow on bright photos
            for layer in (self.stem, self.wide, self.narrow):
                layer.weight.abs_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        early = self.stem(images)
        top = self.narrow(functional.relu6(self.depthwise(functional.relu6(self.wide(early)))))
        mean = early.mean((2, 3))
        variance = (early * early).mean((2, 3)) - mean * mean
        seen = [top.mean((2, 3)), mean, variance.clamp(min=1e-6).sqrt()]
        made: torch.Tensor = self.head(torch.cat(seen, 1))
        return made


@functools.cache
def source(kind: str) -> onnx.ModelProto:
    """The float32 graph of a "plain", "renormalised" or "staged" network; exports take seconds."""
    if kind == "staged":
        torch.manual_seed(5)
        network: nn.Module = Renormalised(Staged(), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    else:
        network = net(kind == "renormalised")
    return export(ServedBrand(deployable(network), 1.0), ("brand_probs",), photos(4))


@functools.cache
def quantised(kind: str) -> onnx.ModelProto:
    return to_int8(source(kind), photos(48))


@pytest.fixture(scope="module")
def int8() -> onnx.ModelProto:
    return quantised("plain")


def leading(model: onnx.ModelProto) -> list[str]:
    """The kinds of the nodes from the pixels to the first convolution."""
    kinds, name = [], "images"
    while "Conv" not in kinds:
        (node,) = [node for node in model.graph.node if name in node.input]
        kinds.append(node.op_type)
        name = node.output[0]
    return kinds


def test_pixels_reach_the_first_convolution_without_being_computed_with(int8: onnx.ModelProto) -> None:
    assert leading(int8) == ["DequantizeLinear", "Transpose", "Conv"]


def test_nothing_is_stored_that_no_node_uses(int8: onnx.ModelProto) -> None:
    used = {name for node in int8.graph.node for name in node.input}
    assert {tensor.name for tensor in int8.graph.initializer} <= used


@pytest.mark.parametrize("kind", ["plain", "renormalised"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_int8_stays_close_to_fp32(engine: str, kind: str) -> None:
    images = photos(65)
    (expected,) = outputs_of(ENGINES["onnxruntime"](source(kind)), images)
    (found,) = outputs_of(ENGINES[engine](quantised(kind)), images)
    assert np.abs(found - expected).max() < 0.02
    assert np.abs(found - expected).max() < np.ptp(expected, axis=0).max() / 4


def test_what_a_net_does_to_pixels_before_its_first_convolution_is_folded_into_that() -> None:
    assert leading(source("renormalised")) == ["Cast", "Transpose", "Sub", "Mul", "Mul", "Add", "Conv"]
    assert leading(quantised("renormalised")) == ["DequantizeLinear", "Transpose", "Conv"]


def test_pixels_that_are_computed_with_otherwise_stay_float() -> None:
    other = deepcopy(source("plain"))
    place, scale = next((at, node) for at, node in enumerate(other.graph.node) if node.op_type == "Mul")
    other.graph.node.insert(place + 1, helper.make_node("Tanh", ["scaled"], [scale.output[0]], "tanh"))
    scale.output[0] = "scaled"
    made = to_int8(other, photos(16))
    assert "Cast" in leading(made)
    (expected,), (found,) = (outputs_of(ENGINES["onnxruntime"](graph), photos(9)) for graph in (other, made))
    assert np.abs(found - expected).max() < 0.05


def test_statistics_and_head_stay_float() -> None:
    made = quantised("staged")
    reached, needed = set(), {node.output[0] for node in made.graph.node if node.op_type == "Conv"}
    for node in reversed(made.graph.node):
        if needed & set(node.output):
            reached.add(node.name)
            needed.update(node.input)
    into_eight_bits = {node.name for node in made.graph.node if node.op_type == "QuantizeLinear"}
    assert into_eight_bits
    assert into_eight_bits <= reached
    graphs = source("staged"), made
    (expected,), (found,) = (outputs_of(ENGINES["onnxruntime"](graph), photos(65)) for graph in graphs)
    assert np.abs(found - expected).max() < 0.01


def quantised_weights(model: onnx.ModelProto) -> list[np.ndarray]:
    """int8 weights [outputs, inputs of a group, height, width] of every convolution."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    maker = {node.output[0]: node for node in model.graph.node}
    return [stored[maker[node.input[1]].input[0]] for node in model.graph.node if node.op_type == "Conv"]


def test_weights_use_more_than_seven_bits_and_no_pair_can_saturate() -> None:
    found = quantised_weights(quantised("staged"))
    assert [weights.shape[1] for weights in found] == [3, 8, 1, 16]
    assert all(weights.dtype == np.int8 for weights in found)
    depthwise = found.pop(2)
    assert (np.abs(depthwise.astype(int)).reshape(16, -1).max(1) == 127).all()
    for weights in found:
        assert np.abs(weights.astype(int)).max() > 64
        pairs = [weights.astype(int)[:, start : start + 2] for start in range(0, weights.shape[1] - 1, 2)]
        for sign in (1, -1):
            assert max(np.maximum(sign * pair, 0).sum(1).max() for pair in pairs) <= 128


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([3, 1, -2, -4], 6),  # neighbours are added: 3 + 1 and 2 + 4
        ([3, -1, 2, -4], 4),  # of different signs they do not add up
        ([1, 3, 3, 1, 0, 0, 0, 0], 4),
        ([3, 1, 2], 5),  # channels that do not fill the lanes: any two may meet
        ([-7], 7),
        ([0, 0, 0, 0], 0),
    ],
)
def test_which_weights_are_added_in_sixteen_bits(weights: list[float], expected: float) -> None:
    assert pair_sums(np.float32(weights).reshape(1, -1, 1, 1)) == [expected]


def saturating() -> onnx.ModelProto:
    """One int8 convolution whose pairs of products pass 32,767 on white photos."""
    stored = [
        numpy_helper.from_array(np.full((8, 3, 3, 3), 127, np.int8), "weights"),
        numpy_helper.from_array(np.float32(1 / 127), "step"),
        numpy_helper.from_array(np.float32(1), "level"),
        numpy_helper.from_array(np.float32(32), "coarse"),
        numpy_helper.from_array(np.uint8(0), "dark"),
        numpy_helper.from_array(np.int8(0), "none"),
        numpy_helper.from_array(np.array([2, 3], np.int64), "sides"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["images", "level", "dark"], ["pixels"]),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["weights", "step", "none"], ["kernel"]),
        helper.make_node("Conv", ["planes", "kernel"], ["made"]),
        helper.make_node("QuantizeLinear", ["made", "coarse", "dark"], ["quantised"]),
        helper.make_node("DequantizeLinear", ["quantised", "coarse", "dark"], ["again"]),
        helper.make_node("ReduceMean", ["again", "sides"], ["mean"], keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 16, 16, 3])
    output = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 8])
    graph = helper.make_graph(nodes, "saturating", [images], [output], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 adds in 16 bits")
def test_a_process_limited_to_avx2_saturates_as_such_cpus_do() -> None:
    white = np.full((2, 16, 16, 3), 255, np.uint8)
    (native,) = outputs_of(ENGINES["onnxruntime"](saturating()), white)
    (limited,) = outputs_on_avx2(saturating(), white)
    # red and green are added in 16 bits, blue alone; 9 places, steps of 32
    pair, alone = min(2 * 255 * 127, 2**15 - 1), 255 * 127
    has_vnni = "vnni" in Path("/proc/cpuinfo").read_text(encoding="ascii")
    # without VNNI ONNX Runtime saturates too, and adds the 27 products of a place in 13 pairs
    here = 27 * 255 if has_vnni else (13 * pair + alone) / 127
    assert np.array_equal(native, np.full((2, 8), np.rint(here / 32) * 32))
    assert np.array_equal(limited, np.full((2, 8), np.rint(9 * (pair + alone) / 127 / 32) * 32))


def test_cpus_with_and_without_vnni_give_the_same_answers() -> None:
    bright = np.maximum(photos(16), 200)
    (native,) = outputs_of(ENGINES["openvino"](quantised("staged")), bright)
    (limited,) = outputs_on_avx2(quantised("staged"), bright)
    assert np.abs(native - limited).max() < 1e-4


@pytest.mark.parametrize("count", [1, 3, 8])
def test_openvino_reads_memory_that_it_may_not_write_and_parts_of_a_batch(
    int8: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", SimpleNamespace())
    openvino_run = importlib.import_module("training.serving.model").openvino_run
    onnx.save(int8, tmp_path / INT8_FILE)
    names, run = openvino_run(tmp_path / INT8_FILE, 1)
    assert names == ["brand_probs"]
    images = photos(16)
    (expected,) = run(images[:count].copy())
    lent = images[:count]
    lent.setflags(write=False)
    (found,) = run(lent)
    assert np.array_equal(found, expected)
    (every_second,) = run(images[: 2 * count : 2])
    assert np.array_equal(every_second, run(images[: 2 * count : 2].copy())[0])
    (kept,) = run(images[:count])
    run(photos(17)[:count])
    assert np.array_equal(kept, expected)  # an answer is the caller's, not the engine's to write over
