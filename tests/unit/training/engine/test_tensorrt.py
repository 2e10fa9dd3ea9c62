"""The order of TensorRT's calls, and what becomes of its refusals, on a stand-in; its names are real: test_names.py."""

from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from training.engine import tensorrt
from training.engine.tensorrt import Engine, build, monitor_of
from training.errors import EngineError

Severity = Enum("Severity", ["ERROR", "INTERNAL_ERROR", "WARNING"])


class FakeTrt:
    """As much of TensorRT's module as `build` and `Engine` call; `calls` holds their order."""

    ILogger = type("ILogger", (), {"Severity": Severity})
    IProgressMonitor = type("IProgressMonitor", (), {})
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    DataType = SimpleNamespace(UINT8="uint8", FLOAT="float")
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")

    def __init__(self, *, parses: bool = True, plan: bytes | None = b"plan", good_timings: bytes = b"") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.parses, self.plan, self.good_timings = parses, plan, good_timings
        self.config = FakeConfig(self)
        self.steps = 1

    def Builder(self, logger: Any) -> Any:  # noqa: N802 - TensorRT's name
        self.logger = logger
        return SimpleNamespace(
            create_network=lambda flags: self.called("create_network", flags) or self.network,
            create_builder_config=lambda: self.config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *a: self.called("set_shape", *a)),
            build_serialized_network=self.build,
        )

    network = SimpleNamespace(get_input=lambda _index: SimpleNamespace(name="images", shape=(-1, 96, 96, 3)))

    def OnnxParser(self, _network: Any, _logger: Any) -> Any:  # noqa: N802 - as above
        error = SimpleNamespace(node_operator=lambda: "Erf", node_name=lambda: "n1", desc=lambda: "no such thing")
        return SimpleNamespace(
            parse=lambda body: self.called("parse", body) or self.parses, num_errors=1, get_error=lambda _index: error
        )

    def called(self, *call: Any) -> None:
        self.calls.append(call)

    def build(self, _network: Any, config: Any) -> bytes | None:
        self.called("build")
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 4)
        for step in range(self.steps):
            if not monitor.step_complete("Building", step):
                return None
        monitor.phase_finish("Building")
        if self.plan is None:
            self.logger.log(Severity.WARNING, "a warning")
            self.logger.log(Severity.ERROR, "out of\n memory")
        return self.plan


class FakeConfig:
    def __init__(self, trt: FakeTrt) -> None:
        self._trt = trt
        self.progress_monitor: Any = None
        self.builder_optimization_level = 0

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self._trt.called("limit", pool, size)

    def add_optimization_profile(self, _profile: Any) -> None:
        self._trt.called("add_profile")

    def create_timing_cache(self, body: bytes) -> Any:
        return SimpleNamespace(body=body, serialize=lambda: b"timings")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._trt.called("set_timings", cache.body, ignore_mismatch)
        return cache.body in {b"", self._trt.good_timings}


def made(trt: FakeTrt, timings: bytes = b"", said: list[str] | None = None) -> tensorrt.Built:
    return build(trt, b"graph", (1, 32, 64), timings, [].append if said is None else said.append)


def test_a_strongly_typed_network_is_parsed_profiled_and_built_in_this_order() -> None:
    trt = FakeTrt(good_timings=b"old")
    assert made(trt, b"old") == tensorrt.Built(b"plan", b"timings")
    sides = (96, 96, 3)
    assert trt.calls == [
        ("create_network", 2),
        ("parse", b"graph"),
        ("limit", "workspace", 4 << 30),
        ("set_shape", "images", (1, *sides), (32, *sides), (64, *sides)),
        ("add_profile",),
        ("set_timings", b"old", False),
        ("build",),
    ]
    assert trt.config.builder_optimization_level == 4


def test_timings_that_do_not_fit_are_measured_again() -> None:
    trt, said = FakeTrt(), []
    made(trt, b"of another GPU", said)
    assert [call for call in trt.calls if call[0] == "set_timings"] == [
        ("set_timings", b"of another GPU", False),
        ("set_timings", b"", False),
    ]
    assert said == ["the timings of earlier builds do not fit, and are measured again"]


def test_a_graph_that_cannot_be_read_is_said_with_its_operator() -> None:
    trt = FakeTrt(parses=False)
    with pytest.raises(EngineError, match="TensorRT cannot read the graph: Erf n1: no such thing"):
        made(trt)
    assert ("build",) not in trt.calls


def test_a_build_that_fails_ends_with_what_tensorrt_logged() -> None:
    with pytest.raises(EngineError, match=r"TensorRT cannot build the engine: out of memory$"):
        made(FakeTrt(plan=None))


def test_an_interruption_ends_the_build_without_passing_through_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_line: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tensorrt, "_LINE_EVERY_S", 0.0)
    trt = FakeTrt()
    trt.steps = 3
    with pytest.raises(KeyboardInterrupt):
        build(trt, b"graph", (1, 32, 64), b"", interrupted)


def test_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monitor = monitor_of(FakeTrt(), said.append)
    monitor.phase_start("Building", None, 4)
    assert monitor.step_complete("Building", 0)
    assert said == []
    monkeypatch.setattr(tensorrt, "_LINE_EVERY_S", 0.0)
    assert monitor.step_complete("Building", 2)
    assert said == ["Building: 3 of 4, 0 s"]


class FakeMemory:
    """Memory whose addresses are places in a list."""

    stream = 7

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.written: list[np.ndarray] = []

    def buffer(self, size_bytes: int) -> int:
        self.sizes.append(size_bytes)
        return len(self.sizes)

    def write(self, _address: int, values: np.ndarray) -> None:
        self.written.append(values)

    def read(self, address: int, into: np.ndarray) -> None:
        into[:] = address

    def wait(self) -> None:
        pass


def engine_of(trt: Any, context: Any, memory: FakeMemory) -> Engine:
    tensors = [("images", (-1, 4, 4, 3), "uint8", "in"), ("score", (-1, 1), "float", "out")]
    by_name = {name: rest for name, *rest in tensors}
    engine = SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda index: tensors[index][0],
        get_tensor_shape=lambda name: by_name[name][0],
        get_tensor_dtype=lambda name: by_name[name][1],
        get_tensor_mode=lambda name: by_name[name][2],
        create_execution_context=lambda: context,
    )
    trt.Runtime = lambda _logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine if plan else None)
    return Engine(trt, b"plan", memory, 8)


def test_an_engine_computes_a_batch_in_buffers_for_the_largest() -> None:
    calls: list[tuple[Any, ...]] = []
    context = SimpleNamespace(
        set_tensor_address=lambda *args: calls.append(("address", *args)),
        set_input_shape=lambda *args: calls.append(("shape", *args)) or True,
        execute_async_v3=lambda stream: calls.append(("run", stream)) or True,
    )
    memory = FakeMemory()
    engine = engine_of(FakeTrt(), context, memory)
    assert memory.sizes == [8 * 4 * 4 * 3, 8 * 4]
    found = engine(np.zeros((2, 4, 4, 3), np.uint8))
    assert calls == [
        ("address", "images", 1), ("address", "score", 2), ("shape", "images", (2, 4, 4, 3)), ("run", 7),
    ]  # fmt: skip
    assert found["score"].tolist() == [[2.0], [2.0]]


@pytest.mark.parametrize(
    ("takes", "runs", "says"), [(False, True, "does not take a batch"), (True, False, "cannot compute")]
)
def test_an_engine_that_cannot_compute_says_so(takes: bool, runs: bool, says: str) -> None:
    context = SimpleNamespace(
        set_tensor_address=lambda *_: None, set_input_shape=lambda *_: takes, execute_async_v3=lambda _: runs
    )
    engine = engine_of(FakeTrt(), context, FakeMemory())
    with pytest.raises(EngineError, match=says):
        engine(np.zeros((1, 4, 4, 3), np.uint8))


def test_a_plan_that_is_not_taken_is_said() -> None:
    trt = FakeTrt()
    engine_of(trt, SimpleNamespace(set_tensor_address=lambda *_: None), FakeMemory())
    with pytest.raises(EngineError, match="TensorRT cannot load the engine: it does not say why"):
        Engine(trt, b"", FakeMemory(), 8)
