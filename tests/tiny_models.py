"""Tiny versions of both models, published as by `photo-trainer`: brightness is quality, colour is the brand.

They are ONNX graphs without weights worth mentioning, so that they load in a second on the real Triton.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from consumer.embedded.servers import Servers
from training.models.spec import ModelSpec
from training.publish.bundle import Bundle
from training.publish.manifest import Evidence
from training.publish.repository import publish

KEY = "only operators have it"
SIZE = 32
QUALITY = ModelSpec(
    "photo_quality", (("quality_score", 1), ("quality_levels", 5)), "quality_levels", ("1", "2", "3", "4", "5"), SIZE
)
BRAND = ModelSpec("brand_logo", (("brand_probs", 3),), "brand_probs", ("crimson", "azure", "no_logo"), SIZE)


def start_operated(servers: Servers, repository: Path) -> dict[str, object]:
    """Settings of a Triton that does nothing without its key, with two versions of each model, and two more models.

    The thresholds of versions 1 and 2 are 0.51 and 0.52 for quality, 0.61 and 0.62 for brands.
    """
    for version, scale in ((1, 1.0), (2, 0.5)):
        publish_quality(repository, scale, 0.5 + version / 100)
        publish_brand(repository, scale, 0.6 + version / 100)
    publish_brand(repository, spec=replace(BRAND, name="more_logos", labels=("cyan", "azure", "no_logo")))
    publish_brand(repository, spec=replace(BRAND, name="odd_logos", labels=("crimson", "azure", "green")))
    closed = f"--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:admin-key={KEY}"
    triton = servers.start_triton(repository, name="operated", options=[closed])
    return {"url": triton.grpc_url, "repository": repository, "admin_key": KEY}


def publish_quality(repository: Path, scale: float = 1.0, threshold: float = 0.5) -> Path:
    """The next version of the quality model: the mean of all pixels, times a scale of 0..1."""
    evidence = Evidence("0" * 64, {"test": {"srcc": scale}}, {"good_threshold": threshold, "temperature": 1.0})
    return publish(QUALITY, repository, Bundle(quality_graph(scale)), evidence)


def publish_brand(repository: Path, scale: float = 1.0, threshold: float = 0.6, spec: ModelSpec = BRAND) -> Path:
    """The next version of the brand model: how far red and blue are apart, times a scale of 0..1."""
    evidence = Evidence("0" * 64, {"test": {"accuracy": scale}}, {"threshold": threshold, "temperature": 1.0})
    return publish(spec, repository, Bundle(brand_graph(scale)), evidence)


def quality_graph(scale: float) -> onnx.ModelProto:
    """`quality_score` is the scaled mean, `quality_levels` are it and its rest."""
    levels = np.zeros((3, 5), np.float32)
    levels[:, 4] = scale / 765
    return _graph(
        QUALITY,
        {"score": np.full((3, 1), scale / 765, np.float32), "levels": levels, "first": np.eye(1, 5, dtype=np.float32)},
        [
            helper.make_node("MatMul", ["means", "score"], ["quality_score"]),
            helper.make_node("MatMul", ["means", "levels"], ["fifth"]),
            helper.make_node("MatMul", ["quality_score", "first"], ["part"]),
            helper.make_node("Sub", ["first", "part"], ["rest"]),
            helper.make_node("Add", ["rest", "fifth"], ["quality_levels"]),
        ],
    )


def brand_graph(scale: float) -> onnx.ModelProto:
    """Crimson is red without blue, azure is blue without red, no_logo is what is left."""
    apart = np.array([[1, -1, 0], [0, 0, 0], [-1, 1, 0]], np.float32) * scale / 255
    left = np.array([[0, 0, -1], [0, 0, -1], [0, 0, 0]], np.float32)
    return _graph(
        BRAND,
        {"apart": apart, "left": left, "whole": np.array([[0, 0, 1]], np.float32)},
        [
            helper.make_node("MatMul", ["means", "apart"], ["signed"]),
            helper.make_node("Relu", ["signed"], ["seen"]),
            helper.make_node("MatMul", ["seen", "left"], ["taken"]),
            helper.make_node("Add", ["seen", "taken"], ["both"]),
            helper.make_node("Add", ["both", "whole"], ["brand_probs"]),
        ],
    )


def _graph(spec: ModelSpec, weights: dict[str, Any], nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in spec.outputs]
    stored = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    means = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "sides"], ["means"], keepdims=0),
    ]
    stored.append(numpy_helper.from_array(np.array([1, 2]), "sides"))
    made = helper.make_graph([*means, *nodes], spec.name, [images], outputs, stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
