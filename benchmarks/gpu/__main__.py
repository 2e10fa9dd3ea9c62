"""The whole check of a GPU in one go, within ten minutes: `scripts/gpu-check [--output DIR] [--repository DIR]`.

Where TensorRT is installed it builds the engines of the newest versions, compares their answers with the published
ones, and measures them, alone and behind Triton; else it does the same with torch on the GPU, in the same fp16 graph.
Beside them stands the CPU, as it is published. It writes DIR/gpu-check.json and prints rows for
docs/explanation/performance-models.md. Exit code 8 without a GPU or without a Triton, 7 if answers are refused.
`--device cpu` does all of it but TensorRT without a GPU.
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

from benchmarks.gpu import behind
from benchmarks.gpu.rates import Row, measured
from consumer.embedded.process import EmbeddedServerError
from training.engine import build
from training.engine.gpu import Gpu, this_gpu
from training.engine.record import RECORD
from training.engine.source import FP16, INT8, Source
from training.errors import GateRefused, ToolMissing, TrainerError
from training.serving.files import FP16_FILE, FP32_FILE, INT8_FILE, PLAN_FILE

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
        yield from tensorrt_behind(sources, arguments, engines, f"TensorRT {shop.place.tensorrt} fp16")


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


def tensorrt_behind(sources: list[Source], arguments: argparse.Namespace, engines: Path, name: str) -> Iterator[Row]:
    """The engines behind Triton: in its image by its own backend, elsewhere by the Python backend.

    Yields:
        The rows of each version.
    """
    if behind.has_tensorrt_backend():
        yield from behind.rows(sources, engines, "gpu", lambda _: name, arguments.seconds, "cuda")
        return
    with tempfile.TemporaryDirectory() as temporary:
        for source in sources:
            built = engines / source.model / str(source.version)
            files = {each: (built / each).read_bytes() for each in (PLAN_FILE, RECORD)}
            behind.lay_out(Path(temporary), source, "tensorrt", files)
        yield from behind.rows(sources, Path(temporary), behind.CONFIG, lambda _: name, arguments.seconds, "cuda")


def torch_behind(sources: list[Source], arguments: argparse.Namespace, device: str) -> Iterator[Row]:
    """Torch behind Triton's Python backend, in the graphs of `by_torch`.

    Yields:
        The rows of each version.
    """
    import torch  # noqa: PLC0415 - an image with TensorRT has none

    found = [for_cpu(source) for source in sources] if device == "cpu" else sources
    with tempfile.TemporaryDirectory() as temporary:
        for source in found:
            file = (source.folder / FP32_FILE).read_bytes() if device == "cpu" else source.graph()
            behind.lay_out(
                Path(temporary), source, f"torch-{device}", {FP32_FILE if device == "cpu" else FP16_FILE: file}
            )
        name = f"torch {torch.__version__} {'fp32' if device == 'cpu' else 'fp16'} on {device}"
        yield from behind.rows(found, Path(temporary), behind.CONFIG, lambda _: name, arguments.seconds, device)


def published_behind(sources: list[Source], arguments: argparse.Namespace) -> Iterator[Row]:
    """The configuration `cpu` behind Triton, as it is published.

    Yields:
        The rows of each version.
    """
    chosen = {source.model: behind.published_engine(source) for source in sources}
    found = [
        replace(source, recipe=replace(source.recipe, precision=INT8))
        if chosen[source.model]["file"] == INT8_FILE else source
        for source in map(for_cpu, sources)
    ]  # fmt: skip

    def name(source: Source) -> str:
        return f"{chosen[source.model]['engine']} {chosen[source.model]['file']} on {os.cpu_count()} cores"

    yield from behind.rows(found, arguments.repository, "cpu", name, arguments.seconds, "cpu")


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
        shop = build.workshop() if arguments.device == "cuda" else None
    except ToolMissing as missing:
        print(f"gpu-check: {missing}; torch instead", file=sys.stderr)
        shop = None
    if shop is not None:
        yield from by_tensorrt(sources, arguments, shop)
    else:
        yield from by_torch(sources, arguments, arguments.device)
        yield from torch_behind(sources, arguments, arguments.device)
    yield from on_cpu(sources, arguments)
    yield from published_behind(sources, arguments)


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


def report(arguments: argparse.Namespace, gpu: Gpu | None, found: list[Row], missing: str) -> None:
    """Writes down and prints what was measured."""
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": asdict(gpu) if gpu else None,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "missing": missing,
        "rows": [asdict(row) for row in found],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "gpu-check.json").write_text(json.dumps(told, indent=1) + "\n")
    place = f"{gpu.name}, driver {gpu.driver}" if gpu else f"no GPU, {os.cpu_count()} cores"
    print(f"{place}, {told['at'][:10]}\n\n{markdown(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("triton_models"))
    parser.add_argument("--engines", type=Path, help="folder to keep the engines in; a temporary one by default")
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: torch without a GPU")
    arguments = parser.parse_args()
    found: list[Row] = []
    missing = ""
    try:
        gpu = this_gpu() if arguments.device == "cuda" else None
        # One by one: what was measured is written down also where a server is missing after it.
        found.extend(rows(arguments))
    except TrainerError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        sys.exit(8 if isinstance(error, ToolMissing) else 7 if isinstance(error, GateRefused) else 1)
    except ImportError as error:
        print(f"gpu-check: neither TensorRT nor torch can be used here: {error}", file=sys.stderr)
        sys.exit(8)
    except (EmbeddedServerError, TimeoutError, ConnectionError) as error:
        missing = f"not measured behind Triton: {error}"
        print(f"gpu-check: {missing}", file=sys.stderr)
    report(arguments, gpu, found, missing)
    sys.exit(7 if any(row.refused for row in found) else 8 if missing else 0)


if __name__ == "__main__":
    main()
