"""Triton's config of each model, in every variant, from one specification.

`gpu` serves a TensorRT plan, `ort` the ONNX file on a GPU, `cpu` the fastest file that a version brings through the
python backend, which also says under which contract it answers. Inputs, other outputs and the contract parameters are
the same text in all of them, because they come from the same place.
"""

import json
from collections.abc import Mapping

from training.models.spec import ModelSpec
from training.serving.files import PLAN_FILE

#: Variants, picked for the whole server by `--model-config-name`.
VARIANTS = ("gpu", "ort", "cpu")
_GPU_BATCH = 64
#: The python backend runs one thread an instance; small batches keep the queue short.
_CPU_BATCH = 8
_QUEUE_DELAY_US = 1000
#: The model says with each answer under which labels and input size it was made: docs/reference/contracts.md.
_CONTRACT = '  { name: "contract_id" data_type: TYPE_INT64 dims: [ 1 ] }'


#: Per version with a file of its own for CPUs: {"engine": "openvino", "file": "model.int8.onnx"}.
Engines = Mapping[int, Mapping[str, str]]
#: Per version: the values that turn scores into a decision, such as {"threshold": 0.8, "temperature": 1.1}.
Decisions = Mapping[int, Mapping[str, float]]


def contract_parameters(spec: ModelSpec, decisions: Decisions) -> dict[str, str]:
    """The parameters that a consumer reads over gRPC; equal in every variant."""
    return {
        "input_size": str(spec.input_px),
        "resize_rule": "short-side-center-crop",
        "resize_short_side": str(spec.input_px),
        "labels": json.dumps(spec.labels),
        "label_checksum": spec.label_checksum,
        **{f"decision.{version}": json.dumps(dict(decisions[version])) for version in sorted(decisions)},
    }


def _block(name: str, lines: list[str]) -> str:
    return "\n".join((f"{name} {{", *(f"  {line}" for line in lines), "}"))


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"


def _tensors(spec: ModelSpec, *more: str) -> list[str]:
    """The tensors of the graph, and `more` outputs, which the backend adds."""
    side = spec.input_px
    lines = [f'input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] }} ]', "output ["]
    for index, (name, width) in enumerate(spec.outputs):
        labels = ' label_filename: "labels.txt"' if name == spec.labelled else ""
        comma = "," if index + 1 < len(spec.outputs) or more else ""
        lines.append(f'  {{ name: "{name}" data_type: TYPE_FP32 dims: [ {width} ]{labels} }}{comma}')
    return [*lines, *more, "]"]


def _warm_up(spec: ModelSpec, *batches: int) -> list[str]:
    """Requests that an instance answers before it counts as ready, so that no photo pays for the first run."""
    dims = f"dims: [ {spec.input_px}, {spec.input_px}, 3 ]"
    inputs = f'inputs {{ key: "images" value {{ data_type: TYPE_UINT8 {dims} random_data: true }} }}'
    return [f'model_warmup {{ name: "batch-{size}" batch_size: {size} {inputs} }}' for size in batches]


def _gpu(spec: ModelSpec) -> list[str]:
    graph_input = f'input {{ key: "images" value {{ dim: [ {spec.input_px}, {spec.input_px}, 3 ] }} }}'
    return [
        'platform: "tensorrt_plan"',
        f'default_model_filename: "{PLAN_FILE}"',
        f"max_batch_size: {_GPU_BATCH}",
        *_tensors(spec),
        'instance_group [ { kind: KIND_GPU count: 2 gpus: [ 0 ] profile: [ "0" ] } ]',
        # count is 2 on purpose: with one instance a queue policy makes the batcher sleep up to 500 ms a batch.
        _block(
            "dynamic_batching",
            [
                f"max_queue_delay_microseconds: {_QUEUE_DELAY_US}",
                "priority_levels: 2",
                "default_priority_level: 2",
                "default_queue_policy { timeout_action: REJECT max_queue_size: 512 }",
                "priority_queue_policy { key: 1 value { timeout_action: REJECT max_queue_size: 1024 } }",
            ],
        ),
        _block(
            "optimization",
            [
                "cuda {",
                "  graphs: true",
                "  output_copy_stream: true",
                *(f"  graph_spec {{ batch_size: {size} {graph_input} }}" for size in (_GPU_BATCH // 2, _GPU_BATCH)),
                "}",
                "input_pinned_memory { enable: true }",
                "output_pinned_memory { enable: true }",
            ],
        ),
        *_warm_up(spec, 1, _GPU_BATCH),
    ]


def _ort(spec: ModelSpec) -> list[str]:
    return [
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {_GPU_BATCH}",
        *_tensors(spec),
        "instance_group [ { kind: KIND_GPU count: 2 } ]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_DELAY_US} }}",
        _block(
            "optimization",
            [
                "graph { level: 1 }",
                "execution_accelerators {",
                "  gpu_execution_accelerator [ {",
                '    name: "cuda" parameters { key: "cudnn_conv_use_max_workspace" value: "1" }',
                "  } ]",
                "}",
            ],
        ),
        *_warm_up(spec, 1, _GPU_BATCH),
        _parameter("intra_op_thread_count", "1"),
    ]


def _cpu(spec: ModelSpec) -> list[str]:
    return [
        'backend: "python"',
        f"max_batch_size: {_CPU_BATCH}",
        *_tensors(spec, _CONTRACT),
        "instance_group [ { kind: KIND_CPU count: 2 } ]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_DELAY_US} }}",
        *_warm_up(spec, 1, _CPU_BATCH),
        # the default for versions without an engine of their own
        _parameter("ENGINE", "onnxruntime"),
        _parameter("MODEL_FILE", "model.onnx"),
        _parameter("THREADS", "1"),
    ]


def config_text(spec: ModelSpec, variant: str, decisions: Decisions, engines: Engines | None = None) -> str:
    """The text of configs/<variant>.pbtxt; `engines` are for `cpu`. Raises KeyError for an unknown variant."""
    body = {"gpu": _gpu, "ort": _ort, "cpu": _cpu}[variant](spec)
    lines = [
        "# Generated by training/publish/model_config.py; publishing a version rewrites it.",
        f'name: "{spec.name}"',
        *body,
        "version_policy { latest { num_versions: 2 } }",
        *(_parameter(key, value) for key, value in contract_parameters(spec, decisions).items()),
    ]
    if variant == "cpu":
        chosen = engines or {}
        lines += [_parameter(f"engine.{version}", json.dumps(dict(chosen[version]))) for version in sorted(chosen)]
    return "\n".join(lines) + "\n"
