"""Reads the model contract from Triton, and runs both models on one photo concurrently."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import KeepAliveOptions, model_config_pb2
from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from consumer.contract import ModelContract, ServedModel, read
from consumer.errors import DependencyDown, PhotoRejected, Retryable
from consumer.events import Pixels, Scores

_INPUT: Final = "images"
_UNIT_SLACK: Final = 1e-3

#: Statuses of an unavailable server, whatever the photo is; `NOT_FOUND` occurs while versions are swapped.
_UNAVAILABLE: Final = frozenset(
    {
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "NOT_FOUND",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    }
)
#: Statuses that a retry does not change.
_PERMANENT: Final = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED"})


class TritonClient(AbstractAsyncContextManager["TritonClient"]):
    """One long-lived gRPC channel to Triton; an async context manager."""

    def __init__(self, url: str, *, deadline_s: float) -> None:
        # Without keepalive, a dead connection looks like a slow answer for ever.
        keepalive = KeepAliveOptions(
            keepalive_time_ms=30_000, keepalive_timeout_ms=10_000, keepalive_permit_without_calls=True
        )
        self._client = InferenceServerClient(url, keepalive_options=keepalive)
        self._url = url
        self._deadline_s = deadline_s

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def read_contract(self, quality_model: str, brand_model: str) -> ModelContract:
        """The contract of the newest loaded version of both models.

        Raises:
            DependencyDown: Triton does not answer, or a model is not loaded.
            ContractMismatch: the models do not fit this service or each other.
        """
        return read(await self._describe(quality_model), await self._describe(brand_model))

    async def infer(self, contract: ModelContract, pixels: Pixels) -> Scores:
        """The scores of one photo from both models, concurrently; `pixels` is uint8 [size, size, 3].

        Raises:
            DependencyDown: as `ask`.
            PhotoRejected: as `ask`.
            Retryable: as `ask`.
        """
        quality, brand = await asyncio.gather(
            self.ask(contract.quality_model, contract.quality_version, "quality_score", pixels),
            self.ask(contract.brand_model, contract.brand_version, "brand_probs", pixels),
        )
        return Scores(float(quality[0]), brand, contract.models)

    async def ask(self, model: str, version: str, output: str, pixels: Pixels) -> npt.NDArray[np.float32]:
        """One output of one model for one photo, all values in 0..1.

        Raises:
            DependencyDown: Triton does not answer in time, or is unavailable.
            PhotoRejected: `inference_rejected`, Triton refuses these pixels.
            Retryable: `inference_failed`, the model failed on them.
        """
        tensor = InferInput(_INPUT, [1, *pixels.shape], "UINT8")
        tensor.set_data_from_numpy(pixels[np.newaxis])
        with _triton_failures(self._url):
            result: InferResult = await self._client.infer(
                model,
                [tensor],
                model_version=version,
                outputs=[InferRequestedOutput(output)],
                client_timeout=self._deadline_s,
            )
        values = _only_row(result, output)
        if values is None:
            raise Retryable("inference_failed", f"{model} answered without a row of {output}")
        if not (np.isfinite(values).all() and values.min() >= -_UNIT_SLACK and values.max() <= 1 + _UNIT_SLACK):
            raise Retryable("inference_failed", f"{model} answered {output} outside 0..1")
        return values

    async def _describe(self, model: str) -> ServedModel:
        with _triton_failures(self._url):
            metadata = await self._client.get_model_metadata(model, client_timeout=self._deadline_s)
            answer = await self._client.get_model_config(model, client_timeout=self._deadline_s)
        config: Any = answer.config
        versions = [int(version) for version in metadata.versions]
        if not versions:
            raise DependencyDown("triton", f"{self._url}: model {model} has no loaded version")
        number = config.input[0].data_type if config.input else None
        input_type: str = "no input" if number is None else model_config_pb2.DataType.Name(number)
        return ServedModel(
            name=model,
            version=str(max(versions)),
            input_type=input_type.removeprefix("TYPE_"),
            input_dims=tuple(config.input[0].dims) if config.input else (),
            output_dims={output.name: tuple(output.dims) for output in config.output},
            parameters={name: value.string_value for name, value in config.parameters.items()},
        )


def _only_row(result: InferResult, output: str) -> npt.NDArray[np.float32] | None:
    """The only row of an output; None where it is missing or its bytes do not match its shape."""
    try:
        rows: npt.NDArray[np.float32] | None = result.as_numpy(output)
    except ValueError:
        return None
    return rows[0] if rows is not None and rows.size and len(rows) == 1 else None


@contextmanager
def _triton_failures(url: str) -> Iterator[None]:
    """Maps Triton's errors by gRPC status.

    Raises:
        DependencyDown: Triton is unavailable.
        PhotoRejected: it refuses this request permanently.
        Retryable: the model failed.
    """
    try:
        yield
    except InferenceServerException as error:
        status = str(error.status() or "UNAVAILABLE").removeprefix("StatusCode.")
        detail = f"{url}: {status}: {error.message()}"
        if status in _PERMANENT:
            raise PhotoRejected("inference_rejected", detail) from None
        if status in _UNAVAILABLE:
            raise DependencyDown("triton", detail) from None
        raise Retryable("inference_failed", detail) from None
