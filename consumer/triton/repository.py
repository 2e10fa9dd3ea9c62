"""The model repository of a Triton: which versions are loaded, and loading others beside them, over gRPC.

Triton may close these calls to all who do not send its admin key (`--grpc-restricted-protocol`).
"""

import json
from collections.abc import Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format, text_format
from grpc import aio
from tritonclient.grpc import InferResult, model_config_pb2, service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from consumer.errors import ContractMismatch, DependencyDown, NotFound, Retryable, SettingsError, TaggerError
from consumer.events import Pixels
from consumer.triton.channel import Tls, channel_to
from consumer.triton.failures import inference_failures, words

#: As `deploy/serve-models` names the key; Triton puts `triton-grpc-protocol-` before the name.
ADMIN_HEADER: Final = "triton-grpc-protocol-admin-key"
READY: Final = "READY"
_SETTING: Final = "triton.admin_key"
#: What Triton says to a call without the key, with the status UNAVAILABLE.
_CLOSED: Final = "restricted"
#: And to a request for a version that is not loaded, with the statuses UNAVAILABLE and NOT_FOUND.
_UNKNOWN: Final = "Request for unknown model"
#: Statuses that a load can have for the sake of the model.
_REFUSALS: Final = frozenset({"INVALID_ARGUMENT", "INTERNAL", "NOT_FOUND", "FAILED_PRECONDITION", "UNKNOWN"})


class LoadRefused(TaggerError):
    """Triton did not load what it was asked to, and says why; what was loaded before is as it was."""


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version as Triton's index has it: `READY`, `LOADING`, `UNLOADING`, `UNAVAILABLE`, and why."""

    model: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a loaded version is asked: with or without a batch of photos of `input_size`² pixels; and its file."""

    input_size: int
    batched: bool
    file: str


def config_json(text: str, versions: Collection[int]) -> str:
    """The configuration of a model, given as protobuf text, that serves just these versions; JSON, as a load takes it.

    Raises:
        ValueError: the text is no configuration.
    """
    config: Any = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise ValueError(str(error)) from None
    config.version_policy.Clear()
    config.version_policy.specific.versions.extend(sorted(versions))
    return str(json_format.MessageToJson(config, preserving_proto_field_name=True))


class RepositoryClient(AbstractAsyncContextManager["RepositoryClient"]):
    """A gRPC channel to Triton for an operator's calls; an async context manager.

    `deadline_s` is for each call but a load, which has `load_timeout_s`.
    """

    def __init__(
        self, url: str, *, admin_key: str, deadline_s: float, load_timeout_s: float, tls: Tls | None = None
    ) -> None:
        self._url = url
        self._channel = channel_to(url, tls, [("grpc.max_receive_message_length", -1)])
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._metadata = ((ADMIN_HEADER, admin_key),) if admin_key else ()
        self._deadline_s = deadline_s
        self.load_timeout_s = load_timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def index(self) -> list[VersionState]:
        """Every version that Triton knows; a model that was never loaded has none.

        Raises:
            DependencyDown: Triton does not answer.
            SettingsError: it wants another admin key.
        """
        with self._explained():
            answer: Any = await self._stub.RepositoryIndex(
                service_pb2.RepositoryIndexRequest(), timeout=self._deadline_s, metadata=self._metadata
            )
        return [VersionState(each.name, each.version, each.state, _shown(each.reason)) for each in answer.models]

    async def load(self, model: str, config: str) -> None:
        """Loads a model under a configuration, as of `config_json`; versions that stay go on serving meanwhile.

        Raises:
            LoadRefused: it cannot be loaded; Triton's words.
            DependencyDown: Triton does not answer.
            SettingsError: it wants another admin key.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        request.parameters["config"].string_param = config
        with self._explained(model):
            await self._stub.RepositoryModelLoad(request, timeout=self.load_timeout_s, metadata=self._metadata)

    async def describe(self, model: str, version: str) -> Loaded:
        """A loaded version.

        Raises:
            DependencyDown: Triton does not answer.
            NotFound: it is not loaded.
            ContractMismatch: its configuration does not say which file or input it has.
        """
        asked = service_pb2.ModelConfigRequest(name=model, version=version)
        with self._explained():
            config: Any = (await self._stub.ModelConfig(asked, timeout=self._deadline_s)).config
        try:
            return Loaded(int(config.input[0].dims[0]), bool(config.max_batch_size), _file(config, version))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ContractMismatch(f"{model}: its configuration names no input or no file: {error!r}") from None

    async def answer(
        self, model: str, version: str, pixels: Pixels, *, batched: bool
    ) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs of a version for one photo, uint8 [size, size, 3]: float32 [values] by name.

        Raises:
            DependencyDown: Triton does not answer, or has not loaded the version.
            Unanswered: it did not answer in time.
            PhotoRejected: it refuses this request.
            Retryable: the version failed, or another one answered.
        """
        request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
        request.inputs.add(name="images", datatype="UINT8", shape=[*([1] if batched else []), *pixels.shape])
        request.raw_input_contents.append(np.ascontiguousarray(pixels).tobytes())
        with inference_failures(self._url):
            answer: Any = await self._stub.ModelInfer(request, timeout=self._deadline_s)
        if (answer.model_name, answer.model_version) != (model, version):
            raise Retryable("inference_failed", f"{answer.model_name} {answer.model_version} answered")
        result, names = InferResult(answer), [each.name for each in answer.outputs if each.datatype == "FP32"]
        try:
            return {name: np.asarray(result.as_numpy(name), np.float32).reshape(-1) for name in names}
        except ValueError as error:
            raise Retryable("inference_failed", f"the answer has other bytes than its shape says: {error}") from None

    @contextmanager
    def _explained(self, model: str = "") -> Iterator[None]:
        """Maps the failures of an operator's call; `model` is the one that is loaded.

        Raises:
            TaggerError: as `index` and `load`.
        """
        try:
            yield
        except aio.AioRpcError as error:
            raise self._meaning(error, model) from None

    def _meaning(self, error: aio.AioRpcError, model: str) -> TaggerError:
        details = error.details() or ""
        if _CLOSED in details:
            told = "it is another one" if self._metadata else "set it to the key that Triton was started with"
            return SettingsError(f"Triton at {self._url} loads and lists only with its key: {told}", setting=_SETTING)
        if _UNKNOWN in details:
            return NotFound(f"Triton at {self._url}: {details}; load it with: photo-tagger models load")
        if model and error.code().name in _REFUSALS:
            return LoadRefused(f"Triton at {self._url} does not load {model}: {_shown(details)}")
        return DependencyDown("triton", words(self._url, error))


def _shown(details: str) -> str:
    """Triton's words without the stack of Python that its backend adds."""
    return details.partition("\n\nAt:\n")[0].strip()


def _file(config: Any, version: str) -> str:  # noqa: ANN401 - a generated class
    """The file of a version: of the python backend by the parameters that `training` writes, else the default one."""
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    if (engine := parameters.get(f"engine.{version}")) is not None:
        return str(json.loads(engine)["file"])
    return parameters.get("MODEL_FILE") or str(config.default_model_filename)
