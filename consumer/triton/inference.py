"""The client of Triton: one channel, the description of the served models, and single requests."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from grpc import ChannelConnectivity
from tritonclient.grpc import InferResult, model_config_pb2, service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from consumer.contract import CONTRACT_OUTPUT, ModelContract, ServedModel, read
from consumer.errors import DependencyDown, Retryable
from consumer.events import Pixels
from consumer.triton.batches import Row
from consumer.triton.channel import Tls, channel_to
from consumer.triton.failures import inference_failures, outages

_INPUT: Final = "images"
_SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
#: What announces bytes of this field in an encoded message: its number, and that they are counted.
_RAW_INPUT: Final = service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2
_UNIT_SLACK: Final = 1e-3
#: A request is given up after so many deadlines: Triton may still compute it, so to ask again doubles the work.
_PATIENCE: Final = 12
_CHANNEL: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without keepalive, a dead connection looks like a slow answer for ever. Where nothing is asked, Triton allows no
    # pings, and ends the connection after three.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # By default, a Triton that was away for long is looked for every two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

#: What is sent beside a request; None for nothing.
Metadata = Sequence[tuple[str, str]] | None
#: What a request for inference is made within, by model, version and photos.
Around = Callable[[str, str, Sequence[Pixels]], AbstractContextManager[Metadata]]


def alone(*_: object) -> AbstractContextManager[None]:
    """Around a request is nothing."""
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Question:
    """What a version is asked for: an output of so many values, made under a contract as `contract_id` numbers it."""

    model: str
    version: str
    output: str
    values: int
    contract: int


@dataclass(frozen=True, slots=True)
class Served:
    """What Triton serves, and the configurations that say so, by model name."""

    contract: ModelContract
    configs: Mapping[str, Any]


class TritonClient(AbstractAsyncContextManager["TritonClient"]):
    """One long-lived gRPC channel to Triton; an async context manager.

    `deadline_s` is the time in which a healthy Triton answers. A request is given up only after a multiple of it.
    Each request for inference is made within `around`, which gives its metadata.
    """

    def __init__(self, url: str, *, deadline_s: float, tls: Tls | None = None, around: Around = alone) -> None:
        self._channel = channel_to(url, tls, _CHANNEL)
        self._stub = GRPCInferenceServiceStub(self._channel)
        # As the stub's ModelInfer, of a message that is encoded already.
        self._infer: Any = self._channel.unary_unary(
            f"/{_SERVICE.full_name}/ModelInfer", response_deserializer=service_pb2.ModelInferResponse.FromString
        )
        self._url = url
        self._around = around
        self.deadline_s = deadline_s
        self.patience_s = _PATIENCE * deadline_s
        #: Grows with each connection that was lost: behind the next one may be another server.
        self.losses = 0
        #: The configuration of each model as it was read last.
        self._configs: dict[str, Any] = {}
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watch = asyncio.create_task(self._count_losses())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._channel.close()

    async def ping(self) -> None:
        """Checks that Triton answers.

        Raises:
            DependencyDown: it does not.
        """
        with outages(self._url):
            await self._stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=self.deadline_s)

    async def server_version(self) -> str:
        """The version of the server, such as 2.51.0.

        Raises:
            DependencyDown: it does not answer.
        """
        with outages(self._url):
            answer: Any = await self._stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=self.deadline_s)
        return str(answer.version)

    async def read_contract(
        self, quality_model: str, brand_model: str, versions: Mapping[str, str] | None = None
    ) -> ModelContract:
        """As `read`, the contract alone."""
        return (await self.read(quality_model, brand_model, versions)).contract

    async def read(self, quality_model: str, brand_model: str, versions: Mapping[str, str] | None = None) -> Served:
        """The contract of these versions, by model name; of the newest loaded one of a model that has none there.

        Raises:
            DependencyDown: Triton does not answer, or a model, or that version of it, is not loaded.
            ContractMismatch: the models do not fit this service or each other.
        """
        asked = versions or {}
        quality, brand = await asyncio.gather(
            *(self._describe(model, asked.get(model)) for model in (quality_model, brand_model))
        )
        configs = {quality_model: quality[1], brand_model: brand[1]}
        return Served(read(quality[0], brand[0]), configs)

    async def still_configured(self, configs: Mapping[str, Any]) -> bool:
        """Whether the models have these configurations, as they were read; half as costly as reading all.

        Raises:
            DependencyDown: Triton does not answer.
        """
        with outages(self._url):
            return list(await asyncio.gather(*map(self._config_of, configs))) == list(configs.values())

    async def _config_of(self, model: str) -> Any:  # noqa: ANN401 - a generated class
        return await self._stub.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=self.deadline_s)

    def most_photos(self, model: str) -> int:
        """How many photos a request may carry, by the configuration that was read last."""
        config: Any = self._configs[model].config
        return max(1, int(config.max_batch_size))

    async def ask(self, question: Question, photos: Sequence[Pixels]) -> list[Row]:
        """The answer for each photo in one request, float32 [values] in 0..1; photos are uint8 [size, size, 3].

        Raises:
            DependencyDown: Triton is unavailable or overloaded, or another model, version or contract answers.
            Unanswered: it did not answer within `patience_s`.
            PhotoRejected: `inference_rejected`, Triton refuses this request.
            Retryable: `inference_failed`, the model failed, or its answer is no such rows.
        """
        model, version, output = question.model, question.version, question.output
        config: Any = self._configs[model].config
        # A model without batches takes and gives tensors without the first dimension.
        batch = [len(photos)] if config.max_batch_size else []
        request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
        request.inputs.add(name=_INPUT, datatype="UINT8", shape=[*batch, *photos[0].shape])
        request.outputs.add(name=output)
        if any(told.name == CONTRACT_OUTPUT for told in config.output):
            request.outputs.add(name=CONTRACT_OUTPUT)
        message = encoded(request, photos)
        with inference_failures(self._url), self._around(model, version, photos) as metadata:
            answer: Any = await self._infer(message, timeout=self.patience_s, metadata=metadata)
        if (answer.model_name, answer.model_version) != (model, version):
            told = f"{answer.model_name} {answer.model_version} answered for {model} {version}"
            raise DependencyDown("triton", f"{self._url}: {told}")
        result = InferResult(answer)
        said = _values(result, CONTRACT_OUTPUT, "INT64")
        if said is not None and (said != question.contract).any():
            told = f"{model} {version} answered for other labels or another input size than those in force"
            raise DependencyDown("triton", f"{self._url}: {told}")
        rows = _values(result, output, "FP32")
        if rows is None:
            raise Retryable("inference_failed", f"{model} answered without a row of {output}")
        if rows.shape != (*batch, question.values):
            raise Retryable("inference_failed", f"{model} answered {output} of shape {list(rows.shape)}")
        if not (rows.min() >= -_UNIT_SLACK and rows.max() <= 1 + _UNIT_SLACK):  # nor is "not a number"
            raise Retryable("inference_failed", f"{model} answered {output} outside 0..1")
        return [Row(row, proven=said is not None) for row in rows.reshape(len(photos), -1)]

    async def _describe(self, model: str, wanted: str | None) -> tuple[ServedModel, Any]:
        with outages(self._url):
            asked = service_pb2.ModelMetadataRequest(name=model)
            metadata: Any = await self._stub.ModelMetadata(asked, timeout=self.deadline_s)
            answer = await self._config_of(model)
        self._configs[model] = answer
        config: Any = answer.config
        versions: list[str] = [version for version in metadata.versions if version.isdecimal()]
        if not versions:
            raise DependencyDown("triton", f"{self._url}: model {model} has no loaded version")
        if wanted is not None and wanted not in versions:
            load = f"load it: `photo-tagger models load {model} {wanted}`"
            loaded = f"version {wanted} is not loaded, but {', '.join(versions)}"
            raise DependencyDown("triton", f"{self._url}: of {model}, {loaded}; {load}")
        described = ServedModel(
            name=model,
            version=wanted or max(versions, key=lambda version: (len(version), version)),
            input_type=_type_name(config.input[0].data_type) if config.input else "no input",
            input_dims=tuple(config.input[0].dims) if config.input else (),
            output_dims={output.name: tuple(output.dims) for output in config.output},
            parameters={name: value.string_value for name, value in config.parameters.items()},
        )
        return described, answer

    async def _count_losses(self) -> None:
        state = self._channel.get_state()
        while state is not ChannelConnectivity.SHUTDOWN:
            await self._channel.wait_for_state_change(state)
            # Whatever the state is now: it may be ready again, with another server.
            self.losses += state is ChannelConnectivity.READY
            state = self._channel.get_state()


def encoded(request: Any, photos: Sequence[Pixels]) -> bytes:  # noqa: ANN401 - a generated class
    """The request with the photos, one after the other, as its raw input.

    A message may be followed by further fields. As part of it the pixels would be copied three times, not once: 0.2 ms
    for eight photos of 96 px, 1 ms for those of 224 px.
    """
    size = sum(pixels.nbytes for pixels in photos)
    head = request.SerializeToString() + _varint(_RAW_INPUT) + _varint(size)
    return b"".join([head, *(np.ascontiguousarray(pixels).data for pixels in photos)])


def _varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first; all but the last one say that more follow."""
    groups = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _values(result: InferResult, output: str, datatype: str) -> npt.NDArray[Any] | None:
    """An output as it was answered; None where it is missing, of another type, or its bytes do not match its shape."""
    tensor: Any = result.get_output(output)
    if tensor is None or tensor.datatype != datatype:
        return None
    try:
        values: npt.NDArray[Any] | None = result.as_numpy(output)
    except ValueError:
        return None
    return values if values is not None and values.size else None


def _type_name(number: int) -> str:
    """`UINT8` of Triton's number for it; the number where it is newer than this client."""
    try:
        name: str = model_config_pb2.DataType.Name(number)
    except ValueError:
        return str(number)
    return name.removeprefix("TYPE_")
