"""TensorRT: from an ONNX graph to a plan, and a plan's answers. One code path for TensorRT 10.12 and newer, and 11.

Annotations name TensorRT's classes: a test reads from them which names this module uses, and looks for them among those
of the real bindings of both versions.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.engine.gpu import Memory, memory
from training.errors import EngineError

if TYPE_CHECKING:
    from tensorrt import (
        Builder,
        IBuilderConfig,
        ICudaEngine,
        IExecutionContext,
        IHostMemory,
        INetworkDefinition,
        IOptimizationProfile,
        ITensor,
        ITimingCache,
        OnnxParser,
        ParserError,
        Runtime,
    )  # fmt: skip

_WORKSPACE_BYTES: Final = 4 << 30
#: Of 0 to 5; 3 is TensorRT's own. 4 also compiles kernels, and these networks are small.
_EFFORT: Final = 4
#: Between two lines of progress.
_LINE_EVERY_S: Final = 5.0
_LINES_KEPT: Final = 3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Built:
    """A plan, and the timings that were measured for it and those before."""

    plan: bytes
    timings: bytes


def build(trt: Any, graph: bytes, batches: tuple[int, int, int], timings: bytes, say: Say) -> Built:  # noqa: ANN401 - the module; the parts of one build
    """Builds a plan of a strongly typed network: types are those of the graph, and TensorRT chooses none.

    Args:
        trt: TensorRT's module.
        graph: An ONNX file with one input, [batch, ...].
        batches: The smallest batch, the one to be fastest at, and the largest.
        timings: Of earlier builds; may be empty.
        say: Takes lines of progress.

    Raises:
        EngineError: TensorRT refuses the graph, or fails.
        KeyboardInterrupt: The build was interrupted.
    """
    logger = logger_of(trt)
    builder: Builder = trt.Builder(logger)
    network: INetworkDefinition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser: OnnxParser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise EngineError(f"TensorRT cannot read the graph: {_parser_error(parser)}")
    config: IBuilderConfig = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.builder_optimization_level = _EFFORT
    config.add_optimization_profile(_profile(builder, network, batches))
    cache: ITimingCache = _cache(config, timings, say)
    monitor = monitor_of(trt, say)
    config.progress_monitor = monitor
    plan: IHostMemory = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise EngineError(f"TensorRT cannot build the engine: {logger.reason}")
    measured: IHostMemory = cache.serialize()
    return Built(bytes(plan), bytes(measured))


def _parser_error(parser: "OnnxParser") -> str:
    errors: list[str] = []
    for index in range(min(parser.num_errors, _LINES_KEPT)):
        error: ParserError = parser.get_error(index)
        errors.append(f"{error.node_operator()} {error.node_name()}: {error.desc()}".strip())
    return "; ".join(errors) or "it does not say why"


def _profile(
    builder: "Builder", network: "INetworkDefinition", batches: tuple[int, int, int]
) -> "IOptimizationProfile":
    tensor: ITensor = network.get_input(0)
    sides = tuple(tensor.shape)[1:]
    profile: IOptimizationProfile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, *((size, *sides) for size in batches))
    return profile


def _cache(config: "IBuilderConfig", timings: bytes, say: Say) -> "ITimingCache":
    cache: ITimingCache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, False):  # noqa: FBT003 - it has no name in the bindings
        if timings:
            say("the timings of earlier builds do not fit, and are measured again")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)  # noqa: FBT003 - as above
    return cache


def logger_of(trt: Any) -> Any:  # noqa: ANN401 - a class that exists only where TensorRT does
    """A logger that keeps the last errors, since TensorRT's calls only return nothing."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - an enumeration of TensorRT's
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                self._lines.append(" ".join(msg.split()))

        @property
        def reason(self) -> str:
            """The last errors, in one line."""
            return "; ".join(self._lines[-_LINES_KEPT:]) or "it does not say why"

    return Logger()


def monitor_of(trt: Any, say: Say) -> Any:  # noqa: ANN401 - as `logger_of`
    """Says how far a build is, and ends it when it is interrupted: an exception must not pass through TensorRT."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # as `logger_of`
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self._steps: dict[str, int] = {}
            self._began_s = self._said_s = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002 - TensorRT's signature
            self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                now_s = time.monotonic()
                if now_s - self._said_s >= _LINE_EVERY_S:
                    self._said_s = now_s
                    total = self._steps.get(phase_name, step + 1)
                    say(f"{phase_name}: {step + 1} of {total}, {now_s - self._began_s:.0f} s")
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

    return Monitor()


class Engine:
    """A plan on the GPU, for one batch at a time."""

    def __init__(self, trt: Any, plan: bytes, held: Memory, most: int) -> None:  # noqa: ANN401 - the module
        """Loads it; `most` is the largest batch.

        Raises:
            EngineError: TensorRT does not take it.
        """
        self._logger = logger_of(trt)
        self._runtime: Runtime = trt.Runtime(self._logger)
        engine: ICudaEngine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"TensorRT cannot load the engine: {self._logger.reason}")
        self._engine: ICudaEngine = engine
        self._context: IExecutionContext = engine.create_execution_context()
        self._memory, self._most = held, most
        self._input = ""
        self._outputs: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._addresses: dict[str, int] = {}
        kinds: dict[Any, np.dtype[Any]] = {
            trt.DataType.UINT8: np.dtype(np.uint8),
            trt.DataType.FLOAT: np.dtype(np.float32),
        }
        names: list[str] = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        for name in names:
            shape = (most, *tuple(engine.get_tensor_shape(name))[1:])
            kind = kinds[engine.get_tensor_dtype(name)]
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._input = name
            else:
                self._outputs[name] = (kind, shape[1:])
            self._addresses[name] = held.buffer(int(np.prod(shape)) * kind.itemsize)
            self._context.set_tensor_address(name, self._addresses[name])
        #: Names of the outputs.
        self.names = list(self._outputs)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for uint8 photos [N, S, S, 3], N at most the largest batch.

        Raises:
            EngineError: It fails.
        """
        self._memory.write(self._addresses[self._input], images)
        self.compute(images.shape)
        found = {name: np.empty((len(images), *shape), kind) for name, (kind, shape) in self._outputs.items()}
        for name, values in found.items():
            self._memory.read(self._addresses[name], values)
        return found

    def compute(self, shape: tuple[int, ...]) -> None:
        """Starts computing on what the input holds.

        Raises:
            EngineError: It cannot.
        """
        if not self._context.set_input_shape(self._input, shape):
            raise EngineError(f"the engine does not take a batch of shape {shape}: {self._logger.reason}")
        if not self._context.execute_async_v3(self._memory.stream):
            raise EngineError(f"the engine cannot compute: {self._logger.reason}")

    def wait(self) -> None:
        """Returns when all that was started is computed."""
        self._memory.wait()


@contextmanager
def loaded(trt: Any, plan: bytes, most: int) -> Iterator[Engine]:  # noqa: ANN401 - the module
    """An engine on the GPU until the end.

    Yields:
        The engine.

    Raises:
        EngineError: TensorRT does not take it.
        ToolMissing: There is no GPU.
    """
    with memory() as held:
        yield Engine(trt, plan, held, most)
