"""The int8 graph takes pixels as they are, decides as fp32 does, and OpenVINO runs it on memory that Triton lends."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from training.models.networks import Renormalised
from training.models.resnet10 import ResNet10
from training.models.served import ServedBrand, deployable
from training.publish.export import export
from training.publish.parity import ENGINES, outputs_of
from training.publish.precisions import INT8_FILE, to_int8

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


def exported(network: nn.Module) -> onnx.ModelProto:
    return export(ServedBrand(deployable(network), 1.0), ("brand_probs",), photos(4))


@pytest.fixture(scope="module")
def fp32() -> onnx.ModelProto:
    return exported(net())


@pytest.fixture(scope="module")
def int8(fp32: onnx.ModelProto) -> onnx.ModelProto:
    return to_int8(fp32, photos(48))


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


@pytest.mark.parametrize("renormalised", [False, True])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_int8_stays_close_to_fp32(engine: str, renormalised: bool) -> None:
    source = exported(net(renormalised))
    made = to_int8(source, photos(48))
    images = photos(65)
    (expected,) = outputs_of(ENGINES["onnxruntime"](source), images)
    (found,) = outputs_of(ENGINES[engine](made), images)
    assert np.abs(found - expected).max() < 0.02
    assert np.abs(found - expected).max() < np.ptp(expected, axis=0).max() / 4


def test_a_net_with_a_norm_of_its_own_keeps_it(fp32: onnx.ModelProto) -> None:
    assert "Cast" in leading(to_int8(exported(net(renormalised=True)), photos(16)))
    assert "Cast" in leading(fp32)


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
