"""A Triton in the test's own event loop: real gRPC on loopback, answers that the test decides."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from consumer.contract import QUALITY_LEVELS, label_checksum

BRANDS = ("crimson", "azure", "no_logo")
Row = list[float]
#: Of one photo, flat.
Pixels = np.ndarray[Any, Any]


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Both models; `row` gives the answer for a model and its pixels, or raises, or waits."""

    labels: tuple[str, ...] = BRANDS
    versions: tuple[str, ...] = ("1",)
    size: int = 8
    threshold: float = 0.6
    input_type: int = 2  # UINT8
    datatype: str = "FP32"
    answers_as: str | None = None
    row: Callable[[str, np.ndarray[Any, Any]], Awaitable[Row]] | None = None
    #: Whether questions about the models get no answer.
    hides: bool = False
    #: The status of the answer to questions about the models, if they are refused.
    refuses_looks: str | None = None
    looks: int = 0
    #: The model of each inference that began, and of each that ended.
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
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
        brand = request.name == "brand_logo"
        labels = self.labels if brand else QUALITY_LEVELS
        outputs = {"brand_probs": len(labels)} if brand else {"quality_score": 1, "quality_levels": 5}
        decision = json.dumps({"threshold": self.threshold, "good_threshold": 0.5})
        decisions = {f"decision.{version}": decision for version in self.versions}
        parameters = {
            "input_size": str(self.size),
            "resize_rule": "short-side-center-crop",
            "resize_short_side": str(self.size),
            "labels": json.dumps(labels),
            "label_checksum": label_checksum(labels),
            **decisions,
        }
        answer = service_pb2.ModelConfigResponse()
        answer.config.input.add(name="images", data_type=self.input_type, dims=[self.size, self.size, 3])
        for name, count in outputs.items():
            answer.config.output.add(name=name, dims=[count])
        for name, value in parameters.items():
            answer.config.parameters[name].string_value = value
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - as above
        if request.model_version not in self.versions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown version {request.model_version}")
        self.begun.append(request.model_name)
        brand = request.model_name == "brand_logo"
        row = [0.9, *[0.0] * (len(self.labels) - 2), 0.1] if brand else [0.75]
        if self.row is not None:
            pixels = np.frombuffer(request.raw_input_contents[0], np.uint8)
            try:
                row = await self.row(request.model_name, pixels)
            except ValueError as failure:
                await context.abort(grpc.StatusCode[failure.args[0]], failure.args[1])
        self.ended.append(request.model_name)
        version = self.answers_as or request.model_version
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=version)
        answer.outputs.add(name=request.outputs[0].name, datatype=self.datatype, shape=[1, len(row)])
        answer.raw_output_contents.append(
            np.array(row, np.float64 if self.datatype == "FP64" else np.float32).tobytes()
        )
        return answer


def reddish(pixels: Pixels) -> bool:
    return bool(pixels[::3].mean() > pixels[2::3].mean())


def honest(fake: FakeTriton, model: str, pixels: Pixels) -> Row:
    """What a right model says, in the order of its present labels."""
    if model == "photo_quality":
        return [0.75]
    shown = "crimson" if reddish(pixels) else "azure"
    return [0.9 if label == shown else 0.05 for label in fake.labels]


@asynccontextmanager
async def serving(fake: FakeTriton, port: int = 0) -> AsyncIterator[FakeTriton]:
    """Serves it while the context lasts; its connections are cut at the end."""
    await fake.start(port)
    try:
        yield fake
    finally:
        await fake.stop()
