"""The whole check of a GPU in one go, within ten minutes: `scripts/gpu-check [--output DIR] [--repository DIR]`.

Where TensorRT is installed it builds the engines of the newest versions, compares their answers with the published
ones, and measures them; else it does the same with torch on the GPU, in the same fp16 graph. Beside them stands the
CPU. It writes DIR/gpu-check.json and prints rows for docs/explanation/performance-models.md. Exit code 8 without a GPU,
7 if answers are refused.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu.rates import Row, measured
from training.engine import build
from training.engine.gpu import this_gpu
from training.engine.source import FP16, Source
from training.errors import GateRefused, ToolMissing, TrainerError
from training.serving.files import FP32_FILE, PLAN_FILE

BATCHES = (1, 32, 64)
CPU_BATCH = 8


def by_tensorrt(sources: list[Source], arguments: argparse.Namespace, shop: build.Workshop) -> Iterator[Row]:
    """Engines that are built, or that are there already and fit.

    Yields:
        The rows of each version.
    """
    with tempfile.TemporaryDirectory() as temporary:
        engines = arguments.engines or Path(temporary)
        build.build_all(sources, arguments.repository, engines, shop, lambda line: print(line, file=sys.stderr))
        for source in sources:
            plan = (engines / source.model / str(source.version) / PLAN_FILE).read_bytes()
            with shop.load(plan, source.recipe.batches[-1]) as engine:
                for batch in BATCHES:

                    def compute(images, engine=engine):  # noqa: ANN001, ANN202
                        engine(images)
                        return lambda: engine.compute(images.shape), engine.wait

                    name = f"TensorRT {shop.place.tensorrt} fp16"
                    yield measured(source, name, engine, batch, arguments.seconds, compute)


def by_torch(sources: list[Source], arguments: argparse.Namespace, device: str) -> Iterator[Row]:
    """On a GPU the graph that an engine would be built from; on a CPU, which is slow in fp16, the float32 one.

    Yields:
        The rows of each version.
    """
    import torch  # noqa: PLC0415 - an image with TensorRT has none

    from benchmarks.gpu.torch_graph import TorchGraph  # noqa: PLC0415 - as above

    torch.backends.cudnn.benchmark = True
    for source in sources:
        if device == "cpu":
            graph = TorchGraph((source.folder / FP32_FILE).read_bytes(), device)
            name = f"torch {torch.__version__} fp32 on {os.cpu_count()} cores"
            yield measured(for_cpu(source), name, graph, CPU_BATCH, arguments.seconds)
            continue
        graph = TorchGraph(source.graph(), device)
        for batch in BATCHES:

            def compute(images, graph=graph):  # noqa: ANN001, ANN202
                there = torch.from_numpy(images).to(device)
                return lambda: graph.compute(there), torch.cuda.synchronize

            name = f"torch {torch.__version__} fp16 on {device}"
            yield measured(source, name, graph, batch, arguments.seconds, compute)


def for_cpu(source: Source) -> Source:
    """Compared in the batches that CPUs serve."""
    return replace(source, recipe=replace(source.recipe, batches=(1, CPU_BATCH, CPU_BATCH)))


def on_cpu(sources: list[Source], arguments: argparse.Namespace) -> Iterator[Row]:
    """The published float32 graph on all cores.

    Yields:
        The rows of each version.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - not everywhere
    except ImportError:
        print("gpu-check: no onnxruntime here, so the CPU's rows are torch's", file=sys.stderr)
        yield from by_torch(sources, arguments, "cpu")
        return
    for source in sources:
        session = onnxruntime.InferenceSession(source.folder / FP32_FILE, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def answer(images, session=session, names=names):  # noqa: ANN001, ANN202
            return dict(zip(names, session.run(names, {"images": images}), strict=True))

        name = f"ONNX Runtime {onnxruntime.__version__} fp32 on {os.cpu_count()} cores"
        yield measured(for_cpu(source), name, answer, CPU_BATCH, arguments.seconds)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """What can be measured here.

    Yields:
        The rows of each version.
    """
    sources = build.sources(arguments.repository, [], 1, FP16)
    try:
        shop = build.workshop()
    except ToolMissing as missing:
        print(f"gpu-check: {missing}; torch instead", file=sys.stderr)
        yield from by_torch(sources, arguments, "cuda")
    else:
        yield from by_tensorrt(sources, arguments, shop)
    yield from on_cpu(sources, arguments)


def markdown(found: list[Row]) -> str:
    """A table of the rows."""
    lines = ["| model | engine | batch | photos/s | computed/s | largest difference |", "|---|---|---|---|---|---|"]
    for row in found:
        alone = f"{row.computed_per_s:,.0f}" if row.computed_per_s else ""
        apart = row.refused or f"{row.largest_difference:.1e}"
        lines.append(
            f"| {row.model} {row.version} | {row.engine} | {row.batch} | {row.photos_per_s:,.0f} | {alone} | {apart} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("triton_models"))
    parser.add_argument("--engines", type=Path, help="folder to keep the engines in; a temporary one by default")
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    arguments = parser.parse_args()
    try:
        gpu = this_gpu()
        found = list(rows(arguments))
    except TrainerError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        sys.exit(8 if isinstance(error, ToolMissing) else 7 if isinstance(error, GateRefused) else 1)
    except ImportError as error:
        print(f"gpu-check: neither TensorRT nor torch can be used here: {error}", file=sys.stderr)
        sys.exit(8)
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "gpu": asdict(gpu), "machine": platform.machine(),
        "cores": os.cpu_count(), "rows": [asdict(row) for row in found],
    }  # fmt: skip
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "gpu-check.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"{gpu.name}, driver {gpu.driver}, {told['at'][:10]}\n\n{markdown(found)}")
    sys.exit(7 if any(row.refused for row in found) else 0)


if __name__ == "__main__":
    main()
