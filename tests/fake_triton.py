"""A Triton in the test's own event loop: real gRPC on loopback, answers that the test decides."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from consumer.contract import CONTRACT_OUTPUT, QUALITY_LEVELS, Geometry, ModelContract, contract_id, label_checksum
from consumer.errors import DependencyDown
from consumer.triton.inference import TritonClient

BRANDS = ("crimson", "azure", "no_logo")
Row = list[float]
#: Of one photo, flat.
Pixels = np.ndarray[Any, Any]


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Both models; `row` gives the answer for a model and the pixels of one photo, or raises, or waits.

    As in Triton, a request of several photos is answered once all are judged, and fails as a whole.
    """

    labels: tuple[str, ...] = BRANDS
    versions: tuple[str, ...] = ("1",)
    size: int = 8
    #: That of `brand_logo`, where it is another.
    brand_size: int | None = None
    threshold: float = 0.6
    input_type: int = 2  # UINT8
    datatype: str = "FP32"
    answers_as: str | None = None
    #: Whether the configuration has the output `contract_id`, and whether answers do.
    announces: bool = False
    says: bool = True
    max_batch_size: int = 8
    row: Callable[[str, np.ndarray[Any, Any]], Awaitable[Row]] | None = None
    #: Whether questions about the models get no answer.
    hides: bool = False
    #: The status of the answer to questions about the models, if they are refused.
    refuses_looks: str | None = None
    looks: int = 0
    #: The model of each photo whose inference began, and of each where it ended.
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    #: The photos in each request, by model.
    requests: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""
    server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Serves on a port of loopback, a free one by default."""
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        self.url = f"127.0.0.1:{self.server.add_insecure_port(f'127.0.0.1:{port}')}"
        await self.server.start()

    async def stop(self) -> None:
        """Cuts every connection."""
        if self.server is not None:
            await self.server.stop(None)

    async def ServerLive(self, _: Any, __: Any) -> Any:  # noqa: N802 - the protocol's name
        return service_pb2.ServerLiveResponse(live=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        await self._told(context)
        return service_pb2.ModelMetadataResponse(name=request.name, versions=self.versions)

    async def _told(self, context: Any) -> None:
        if self.hides:
            await asyncio.sleep(10)
        if self.refuses_looks is not None:
            await context.abort(grpc.StatusCode[self.refuses_looks], "no metadata here")

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - as above
        self.looks += 1
        await self._told(context)
        brand, size, labels = request.name == "brand_logo", self._size(request.name), self._labels(request.name)
        outputs = {"brand_probs": len(labels)} if brand else {"quality_score": 1, "quality_levels": 5}
        decision = json.dumps({"threshold": self.threshold, "good_threshold": 0.5})
        decisions = {f"decision.{version}": decision for version in self.versions}
        parameters = {
            "input_size": str(size),
            "resize_rule": "short-side-center-crop",
            "resize_short_side": str(size),
            "labels": json.dumps(labels),
            "label_checksum": label_checksum(labels),
            **decisions,
        }
        answer = service_pb2.ModelConfigResponse()
        answer.config.max_batch_size = self.max_batch_size
        answer.config.input.add(name="images", data_type=self.input_type, dims=[size, size, 3])
        for name, count in outputs.items():
            answer.config.output.add(name=name, dims=[count])
        if self.announces:
            answer.config.output.add(name=CONTRACT_OUTPUT, dims=[1])
        for name, value in parameters.items():
            answer.config.parameters[name].string_value = value
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - as above
        if request.model_version not in self.versions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown version {request.model_version}")
        photos = self._photos(request)
        if photos is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"unexpected shape {request.inputs[0].shape}")
            raise AssertionError
        self.requests.append((request.model_name, len(photos)))
        size = self._size(request.model_name)
        # Labels may change while it judges: these are those that it judges by.
        said = contract_id(self._labels(request.model_name), Geometry(size, size))
        try:
            rows = await asyncio.gather(*(self._judge(request.model_name, pixels) for pixels in photos))
        except ValueError as failure:
            await context.abort(grpc.StatusCode[failure.args[0]], failure.args[1])
        version = self.answers_as or request.model_version
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=version)
        kind = np.float64 if self.datatype == "FP64" else np.float32
        shape = [*([len(rows)] if self.max_batch_size else []), max(map(len, rows))]
        answer.outputs.add(name=request.outputs[0].name, datatype=self.datatype, shape=shape)
        answer.raw_output_contents.append(b"".join(np.array(row, kind).tobytes() for row in rows))
        if self.says and any(output.name == CONTRACT_OUTPUT for output in request.outputs):
            answer.outputs.add(name=CONTRACT_OUTPUT, datatype="INT64", shape=[*shape[:-1], 1])
            answer.raw_output_contents.append(np.full(len(rows), said, np.int64).tobytes())
        return answer

    def _photos(self, request: Any) -> list[Pixels] | None:
        """The photos of a request; None where it does not fit the configuration."""
        *batch, height, width, channels = request.inputs[0].shape
        most = self.max_batch_size
        size = self._size(request.model_name)
        if len(batch) != min(most, 1) or (batch and batch[0] > most) or (height, width) != (size, size):
            return None
        flat = np.frombuffer(request.raw_input_contents[0], np.uint8)
        return list(flat.reshape(-1, height * width * channels))

    def _labels(self, model: str) -> tuple[str, ...]:
        return self.labels if model == "brand_logo" else QUALITY_LEVELS

    def _size(self, model: str) -> int:
        return self.brand_size if model == "brand_logo" and self.brand_size is not None else self.size

    async def _judge(self, model: str, pixels: Pixels) -> Row:
        self.begun.append(model)
        row = [0.9, *[0.0] * (len(self.labels) - 2), 0.1] if model == "brand_logo" else [0.75]
        if self.row is not None:
            row = await self.row(model, pixels)
        self.ended.append(model)
        return row


def reddish(pixels: Pixels) -> bool:
    return bool(pixels[::3].mean() > pixels[2::3].mean())


def honest(fake: FakeTriton, model: str, pixels: Pixels) -> Row:
    """What a right model says, in the order of its present labels."""
    if model == "photo_quality":
        return [0.75]
    shown = "crimson" if reddish(pixels) else "azure"
    return [0.9 if label == shown else 0.05 for label in fake.labels]


async def contract_of(client: TritonClient) -> ModelContract:
    """The served contract, however short the client's deadline is for a busy machine."""
    async with asyncio.timeout(30):
        while True:
            with suppress(DependencyDown):
                return await client.read_contract("photo_quality", "brand_logo")


@asynccontextmanager
async def serving(fake: FakeTriton, port: int = 0) -> AsyncIterator[FakeTriton]:
    """Serves it while the context lasts; its connections are cut at the end."""
    await fake.start(port)
    try:
        yield fake
    finally:
        await fake.stop()
