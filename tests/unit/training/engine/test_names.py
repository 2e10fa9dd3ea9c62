"""Every name of TensorRT that the code uses is one of the real bindings, of 10.15 as of 11.2; removed ones are not.

The names were read from the bindings by scripts/tensorrt-names, which also reads those of newer versions.
"""

import ast
import json
from pathlib import Path

import pytest

from training.engine import tensorrt

SOURCE = Path(tensorrt.__file__).read_text()
NAMES: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("tensorrt-names.json").read_text())
#: Gone in 11; their use would not fail in a test without a GPU.
REMOVED = {
    "FP16", "BF16", "INT8", "FP8", "INT4", "FP4", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS",
    "EXPLICIT_BATCH", "int8_calibrator", "algorithm_selector", "device_memory_size", "build_engine",
    "build_cuda_engine", "max_workspace_size", "max_batch_size",
}  # fmt: skip


def chain(node: ast.expr) -> list[str]:
    """The names of `a.b.c`; none of anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := chain(node.value)):
        return [*before, node.attr]
    return []


def annotated(tree: ast.Module) -> dict[str, str]:
    """Class of TensorRT by variable, attribute or argument, as the annotations have it."""
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tensorrt"
        for alias in node.names
    }
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            name, kind = ".".join(chain(node.target)), ast.unparse(node.annotation).strip("'\"")
        elif isinstance(node, ast.arg) and node.annotation:
            name, kind = node.arg, ast.unparse(node.annotation).strip("'\"")
        else:
            continue
        if kind in imported:
            found[name] = kind
    return found


def used(source: str) -> set[tuple[str, str]]:
    """(class, name) of every use of TensorRT; the class is empty for what stands in the module."""
    tree = ast.parse(source)
    kinds = annotated(tree)
    found = {("", kind) for kind in kinds.values()}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        names = chain(node)
        if names[:1] == ["trt"]:
            found.add((".".join(names[1:-1]), names[-1]))
        elif (owner := ".".join(names[:-1])) in kinds:
            found.add((kinds[owner], names[-1]))
        if isinstance(node.value, ast.Attribute) and chain(node.value)[:1] == ["trt"]:
            found.add((".".join(chain(node.value)[1:]), node.attr))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and (base := [chain(each) for each in node.bases]) and base[0][:1] == ["trt"]:
            found |= {
                (base[0][-1], each.name)
                for each in node.body
                if isinstance(each, ast.FunctionDef) and not each.name.startswith("_") and not each.decorator_list
            }
    return {(kind, name) for kind, name in found if not name.startswith("__")}


def unknown(source: str, version: str) -> set[tuple[str, str]]:
    names = NAMES[version]
    return {(kind, name) for kind, name in used(source) if name not in names.get(kind, ())}


def test_the_names_are_of_both_major_versions() -> None:
    assert [version.split(".")[0] for version in NAMES] == ["10", "11"]
    assert all(len(names) > 60 for names in NAMES.values())


@pytest.mark.parametrize("version", NAMES)
def test_every_name_that_is_used_exists(version: str) -> None:
    assert unknown(SOURCE, version) == set()


def test_the_whole_path_is_read_from_the_source() -> None:
    found = used(SOURCE)
    assert found >= {
        ("", "Builder"), ("", "Runtime"), ("", "OnnxParser"), ("Builder", "build_serialized_network"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"), ("MemoryPoolType", "WORKSPACE"),
        ("IBuilderConfig", "progress_monitor"), ("IBuilderConfig", "set_timing_cache"), ("OnnxParser", "parse"),
        ("IOptimizationProfile", "set_shape"), ("ITimingCache", "serialize"), ("ITensor", "shape"),
        ("Runtime", "deserialize_cuda_engine"), ("ICudaEngine", "get_tensor_mode"), ("ParserError", "desc"),
        ("IExecutionContext", "execute_async_v3"), ("IProgressMonitor", "step_complete"), ("ILogger", "log"),
        ("ILogger.Severity", "INTERNAL_ERROR"), ("DataType", "UINT8"), ("TensorIOMode", "INPUT"),
    }  # fmt: skip


def test_no_removed_name_is_touched() -> None:
    assert {name for _, name in used(SOURCE)} & REMOVED == set()
    assert {"FP16", "INT8"} <= set(NAMES["10.15.1.29"]["BuilderFlag"])
    assert not REMOVED & set(NAMES["11.2.1.2"]["BuilderFlag"])


@pytest.mark.parametrize(
    ("right", "wrong", "caught"),
    [
        ("trt.MemoryPoolType.WORKSPACE", "trt.MemoryPoolType.WORKPLACE", ("MemoryPoolType", "WORKPLACE")),
        ("config.set_timing_cache", "config.use_timing_cache", ("IBuilderConfig", "use_timing_cache")),
        ("parser.parse(", "parser.read(", ("OnnxParser", "read")),
        ("self._context.execute_async_v3", "self._context.execute_async_v2", ("IExecutionContext", "execute_async_v2")),
        ("def step_complete", "def step_done", ("IProgressMonitor", "step_done")),
    ],
)
def test_a_name_that_is_none_is_found(right: str, wrong: str, caught: tuple[str, str]) -> None:
    broken = SOURCE.replace(right, wrong)
    assert broken != SOURCE
    assert all(caught in unknown(broken, version) for version in NAMES)
