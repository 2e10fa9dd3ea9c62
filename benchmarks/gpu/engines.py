"""Engines for Triton's Python backend that no published version has: torch on a CPU or a GPU, and TensorRT's plans.

As those of training/serving/model.py: of a file and a number of threads, names of outputs and what computes them.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], list[np.ndarray]]


def torch_on(device: str) -> Callable[[Path, int], tuple[list[str], Run]]:
    """The engine of an ONNX graph in torch."""

    def engine(path: Path, threads: int) -> tuple[list[str], Run]:
        import torch  # noqa: PLC0415 - where TensorRT is, there may be no torch

        from benchmarks.gpu.torch_graph import TorchGraph  # noqa: PLC0415 - imports torch

        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
        graph = TorchGraph(path.read_bytes(), device)
        return graph.names, lambda images: list(graph(np.require(images, requirements=["C", "W"])).values())

    return engine


def tensorrt(path: Path, _threads: int) -> tuple[list[str], Run]:
    """The engine of a plan; ENGINE.json stands beside it. All of it on one thread, whose CUDA context it is."""
    from training.engine.library import bindings  # noqa: PLC0415 - only here
    from training.engine.record import read_record  # noqa: PLC0415
    from training.engine.tensorrt import loaded  # noqa: PLC0415

    held = contextlib.ExitStack()
    thread = ThreadPoolExecutor(1)
    most = read_record(path.parent).recipe.batches[-1]

    def opened() -> Any:  # noqa: ANN401 - an engine
        return held.enter_context(loaded(bindings(), path.read_bytes(), most))

    compute = thread.submit(opened).result()
    return compute.names, lambda images: list(thread.submit(compute, images).result().values())


ENGINES = {"torch-cpu": torch_on("cpu"), "torch-cuda": torch_on("cuda"), "tensorrt": tensorrt}
