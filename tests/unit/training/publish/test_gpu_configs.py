"""The configurations for GPUs: what they ask for is what their backends document, so that nothing is silently ignored.

Backends ignore parameters that they do not know, and some fields mean nothing to some of them. The lists are those of
the backends' READMEs, as read on 2026-11-29 (triton-inference-server/onnxruntime_backend and tensorrt_backend), and of
ONNX Runtime's page on its CUDA execution provider, whose options the backend passes on.
"""

import re
from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.unit.training.publish.test_repository import BRAND, QUALITY, REPOSITORY, graph_outputs, parse
from training.engine.source import FP16, source_of
from training.models.spec import ModelSpec
from training.publish.model_config import VARIANTS, config_text, contract_parameters

DECISIONS = {1: {"threshold": 0.5, "temperature": 1.0}}
#: "Model Config Options" of the onnxruntime backend; the parameters of CUDA as `parameters` are deprecated there.
ONNXRUNTIME = {
    "intra_op_thread_count", "inter_op_thread_count", "execution_mode", "enable_mem_arena", "enable_mem_pattern",
    "memory.enable_memory_arena_shrinkage",
}  # fmt: skip
#: What the backend passes on where an accelerator is called `cuda`.
CUDA = {
    "device_id", "gpu_mem_limit", "arena_extend_strategy", "cudnn_conv_algo_search", "do_copy_in_default_stream",
    "cudnn_conv_use_max_workspace", "cudnn_conv1d_pad_to_nc1d", "enable_cuda_graph", "prefer_nhwc", "use_tf32",
    "enable_skip_layer_norm_strict_mode", "use_ep_level_unified_stream", "fuse_conv_bias", "sdpa_kernel",
}  # fmt: skip
#: "Parameters" of the tensorrt backend.
TENSORRT = {"execution_context_allocation_strategy"}
#: Of the Python backend: what training/serving/model.py reads.
PYTHON = {"ENGINE", "MODEL_FILE", "THREADS"}
KNOWN = {"gpu": TENSORRT, "ort": ONNXRUNTIME, "cpu": PYTHON}
specs = pytest.mark.parametrize("spec", [QUALITY, BRAND], ids=lambda spec: spec.name)


def config_of(spec: ModelSpec, variant: str) -> model_config_pb2.ModelConfig:
    return parse(config_text(spec, variant, DECISIONS))


def ignored(config: model_config_pb2.ModelConfig, variant: str, spec: ModelSpec) -> set[str]:
    """What the variant's backend would ignore."""
    found = {
        f"parameter {key}" for key in config.parameters.keys() - contract_parameters(spec, DECISIONS) - KNOWN[variant]
    }
    for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator:
        if variant != "ort" or accelerator.name != "cuda":
            found.add(f"accelerator {accelerator.name}")
        found |= {f"option {key}" for key in accelerator.parameters.keys() - CUDA}
    if variant != "gpu" and config.optimization.HasField("cuda"):
        found.add("cuda graphs")
    if variant != "ort" and config.optimization.HasField("graph"):
        found.add("graph level")
    if variant != "gpu" and any(group.profile for group in config.instance_group):
        found.add("profile")
    return found


def accelerator(text: str) -> str:
    return f"optimization {{ execution_accelerators {{ gpu_execution_accelerator [ {{ {text} }} ] }} }}"


@specs
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_backend_knows_all_that_it_is_asked_for(spec: ModelSpec, variant: str) -> None:
    assert ignored(config_of(spec, variant), variant, spec) == set()


@pytest.mark.parametrize(
    ("variant", "added", "caught"),
    [
        ("gpu", 'parameters { key: "precision" value { string_value: "fp16" } }', "parameter precision"),
        ("ort", 'parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "1" } }', "parameter INTRA"),
        ("ort", 'parameters { key: "cudnn_conv_algo_search" value { string_value: "1" } }', "parameter cudnn_conv"),
        (
            "ort",
            'optimization { execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" } ] } }',
            "accel",
        ),
        ("cpu", "optimization { cuda { graphs: true } }", "cuda graphs"),
        ("gpu", "optimization { graph { level: 1 } }", "graph level"),
        ("ort", 'instance_group [ { kind: KIND_GPU count: 2 profile: [ "0" ] } ]', "profile"),
        ("ort", accelerator('name: "cuda" parameters { key: "cudnn_workspace" value: "1" }'), "option cudnn_workspace"),
    ],
)
def test_what_a_backend_would_ignore_is_noticed(variant: str, added: str, caught: str) -> None:
    config = config_of(BRAND, variant)
    text_format.Merge(added, config)
    assert [each for each in ignored(config, variant, BRAND) if each.startswith(caught)]


@pytest.mark.parametrize("field", ["max_batch: 8", "optimization { cuda { graph: true } }", "precision: 1"])
def test_a_field_that_triton_does_not_have_is_an_error(field: str) -> None:
    with pytest.raises(text_format.ParseError):
        parse(f"{config_text(BRAND, 'gpu', DECISIONS)}\n{field}\n")


@specs
def test_the_level_of_ort_is_one_that_its_backend_takes(spec: ModelSpec) -> None:
    assert config_of(spec, "ort").optimization.graph.level in {-1, 1}


@specs
@pytest.mark.parametrize("variant", ["gpu", "ort"])
def test_what_is_warmed_up_or_captured_fits_the_batches_and_the_input(spec: ModelSpec, variant: str) -> None:
    config = config_of(spec, variant)
    dims = list(config.input[0].dims)
    batches = {each.batch_size for each in config.model_warmup}
    assert batches == {1, config.max_batch_size}
    assert all(list(each.inputs["images"].dims) == dims for each in config.model_warmup)
    graphs = config.optimization.cuda.graph_spec
    assert [each.batch_size for each in graphs] == ([32, 64] if variant == "gpu" else [])
    assert all(list(each.input["images"].dim) == dims for each in graphs)


@pytest.mark.parametrize("model", ["brand_logo", "photo_quality"])
def test_engines_are_built_for_the_batches_and_the_profile_that_are_served(model: str) -> None:
    config = parse((REPOSITORY / model / "configs/gpu.pbtxt").read_text())
    smallest, fastest, largest = source_of(REPOSITORY, model, 2, FP16).recipe.batches
    assert (smallest, largest) == (1, config.max_batch_size)
    assert fastest in {each.batch_size for each in config.optimization.cuda.graph_spec}
    assert [list(group.profile) for group in config.instance_group] == [["0"]]  # the builder adds one profile
    assert config.default_model_filename == "model.plan"


@specs
def test_all_variants_tell_the_consumer_the_same(spec: ModelSpec) -> None:
    wide = replace(spec, input_px=128)
    told = []
    for variant in VARIANTS:
        config = config_of(wide, variant)
        outputs = graph_outputs(config)
        tensors = [(each.name, each.data_type, tuple(each.dims)) for each in (*config.input, *outputs)]
        labels = [each.label_filename for each in outputs]
        decisions = {key: config.parameters[key].string_value for key in contract_parameters(wide, DECISIONS)}
        served = config.version_policy.latest.num_versions
        told.append((config.name, tensors, labels, decisions, served))
    assert told[0] == told[1] == told[2]


@specs
def test_a_configuration_says_nothing_twice(spec: ModelSpec) -> None:
    for variant in VARIANTS:
        keys = re.findall(r'^parameters { key: "([^"]+)"', config_text(spec, variant, DECISIONS), re.MULTILINE)
        assert len(keys) == len(set(keys))
