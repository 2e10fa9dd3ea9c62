"""The client of Triton: one channel, the description of the served models, and single inferences."""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from grpc import ChannelConnectivity
from tritonclient.grpc import KeepAliveOptions, model_config_pb2
from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from consumer.contract import ModelContract, ServedModel, read
from consumer.errors import DependencyDown, Retryable
from consumer.events import Pixels
from consumer.triton.failures import inference_failures, outages

_INPUT: Final = "images"
_UNIT_SLACK: Final = 1e-3
#: A request is given up after so many deadlines: Triton may still compute it, so to ask again doubles the work.
_PATIENCE: Final = 12


class TritonClient(AbstractAsyncContextManager["TritonClient"]):
    """One long-lived gRPC channel to Triton; an async context manager.

    `deadline_s` is the time in which a healthy Triton answers. A request is given up only after a multiple of it.
    """

    def __init__(self, url: str, *, deadline_s: float) -> None:
        # Without keepalive, a dead connection looks like a slow answer for ever.
        keepalive = KeepAliveOptions(
            keepalive_time_ms=30_000, keepalive_timeout_ms=10_000, keepalive_permit_without_calls=True
        )
        self._client = InferenceServerClient(url, keepalive_options=keepalive)
        self._url = url
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
        await self._client.close()

    async def read_contract(
        self, quality_model: str, brand_model: str, pinned: ModelContract | None = None
    ) -> ModelContract:
        """The contract of the newest loaded version of both models; of those of `pinned` that are loaded.

        Raises:
            DependencyDown: Triton does not answer, or a model is not loaded.
            ContractMismatch: the models do not fit this service or each other.
        """
        versions = {} if pinned is None else pinned.models
        quality, brand = await asyncio.gather(
            self._describe(quality_model, versions.get(quality_model)),
            self._describe(brand_model, versions.get(brand_model)),
        )
        return read(quality, brand)

    async def still_configured(self, models: Iterable[str]) -> bool:
        """Whether these models have the configuration that was read last; half as costly as reading all.

        Raises:
            DependencyDown: Triton does not answer.
        """
        with outages(self._url):
            return all(await asyncio.gather(*map(self._is_as_read, models)))

    async def _is_as_read(self, model: str) -> bool:
        config: Any = await self._client.get_model_config(model, client_timeout=self.deadline_s)
        return bool(config == self._configs.get(model))

    async def ask(self, model: str, version: str, output: str, values: int, pixels: Pixels) -> npt.NDArray[np.float32]:
        """The only row of one output, of `values` numbers in 0..1, for one photo; uint8 [size, size, 3].

        Raises:
            DependencyDown: Triton is unavailable or overloaded, or another model or version answers.
            Unanswered: it did not answer within `patience_s`.
            PhotoRejected: `inference_rejected`, Triton refuses this request.
            Retryable: `inference_failed`, the model failed, or its answer is no such row.
        """
        tensor = InferInput(_INPUT, [1, *pixels.shape], "UINT8")
        tensor.set_data_from_numpy(pixels[np.newaxis])
        with inference_failures(self._url):
            result: InferResult = await self._client.infer(
                model,
                [tensor],
                model_version=version,
                outputs=[InferRequestedOutput(output)],
                client_timeout=self.patience_s,
            )
        answer: Any = result.get_response()
        rows = _rows(result, output)
        if (answer.model_name, answer.model_version) != (model, version):
            told = f"{answer.model_name} {answer.model_version} answered for {model} {version}"
            raise DependencyDown("triton", f"{self._url}: {told}")
        if rows is None:
            raise Retryable("inference_failed", f"{model} answered without a row of {output}")
        if rows.shape != (1, values):
            raise Retryable("inference_failed", f"{model} answered {output} of shape {list(rows.shape)}")
        row: npt.NDArray[np.float32] = rows[0]
        if not (np.isfinite(row).all() and row.min() >= -_UNIT_SLACK and row.max() <= 1 + _UNIT_SLACK):
            raise Retryable("inference_failed", f"{model} answered {output} outside 0..1")
        return row

    async def _describe(self, model: str, pinned: str | None) -> ServedModel:
        with outages(self._url):
            metadata = await self._client.get_model_metadata(model, client_timeout=self.deadline_s)
            answer = await self._client.get_model_config(model, client_timeout=self.deadline_s)
        self._configs[model] = answer
        config: Any = answer.config
        versions: list[str] = [version for version in metadata.versions if version.isdecimal()]
        if not versions:
            raise DependencyDown("triton", f"{self._url}: model {model} has no loaded version")
        newest = max(versions, key=lambda version: (len(version), version))
        return ServedModel(
            name=model,
            version=pinned if pinned is not None and pinned in versions else newest,
            input_type=_type_name(config.input[0].data_type) if config.input else "no input",
            input_dims=tuple(config.input[0].dims) if config.input else (),
            output_dims={output.name: tuple(output.dims) for output in config.output},
            parameters={name: value.string_value for name, value in config.parameters.items()},
        )

    async def _count_losses(self) -> None:
        channel = self._client._channel  # noqa: SLF001 - the client shows the state of its channel nowhere else
        state = channel.get_state()
        while state is not ChannelConnectivity.SHUTDOWN:
            await channel.wait_for_state_change(state)
            # Whatever the state is now: it may be ready again, with another server.
            self.losses += state is ChannelConnectivity.READY
            state = channel.get_state()


def _rows(result: InferResult, output: str) -> npt.NDArray[np.float32] | None:
    """An output as it was answered; None where it is missing, or is no FP32 whose bytes match its shape."""
    tensor: Any = result.get_output(output)
    if tensor is None or tensor.datatype != "FP32":
        return None
    try:
        rows: npt.NDArray[np.float32] | None = result.as_numpy(output)
    except ValueError:
        return None
    return rows if rows is not None and rows.size else None


def _type_name(number: int) -> str:
    """`UINT8` of Triton's number for it; the number where it is newer than this client."""
    try:
        name: str = model_config_pb2.DataType.Name(number)
    except ValueError:
        return str(number)
    return name.removeprefix("TYPE_")
