"""The job that all peers share: the service's decode, models, decision, encoding and Redis script, and nothing around.

`BENCH_PEER` in the environment says where the servers and the topics are.
"""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.resources import files
from itertools import chain
from urllib.parse import unquote, urlsplit

import aiohttp
import numpy as np
import redis
import redis.asyncio
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import urllib3

from consumer import contract, events, tagging
from consumer.contract import ModelContract, ServedModel
from consumer.events import PhotoUploaded, Pixels, Scores, Source, Tags
from consumer.imaging.decode import decode
from consumer.imaging.limits import PrepareLimits
from consumer.redis.schema import bucket, fields_of, index_prefix, keys_of

PEER = json.loads(os.environ["BENCH_PEER"])
CONSUMER = {
    "bootstrap.servers": PEER["kafka"],
    "group.id": PEER["group"],
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
}
PRODUCER = {
    "bootstrap.servers": PEER["kafka"],
    "enable.idempotence": True,
    "linger.ms": 5,
    "compression.type": "lz4",
}
MODELS = (("photo_quality", "quality_score"), ("brand_logo", "brand_probs"))
SCRIPT = files("consumer.redis").joinpath("write_tags.lua").read_text()
TOP_K = 5
DEADLINE_S = 5.0


def parse(value: bytes) -> PhotoUploaded:
    return events.UPLOADED_ADAPTER.validate_json(value)


def read_file(uri: str) -> bytes:
    with open(unquote(urlsplit(uri).path), "rb") as file:  # noqa: PTH123 - half the time of Path's
        return file.read()


def script_call(tags: Tags) -> tuple[list[str], list[str]]:
    """Keys and arguments of the Redis script."""
    prefix = index_prefix(bucket(tags.photo_id))
    return keys_of(tags), [tags.photo_id, prefix, "keep", *chain.from_iterable(fields_of(tags).items())]


def tensor_of(kind: type, batch: Pixels) -> object:
    tensor = kind("images", list(batch.shape), "UINT8")
    tensor.set_data_from_numpy(batch)
    return tensor


def read_contract(client: triton_grpc.InferenceServerClient) -> ModelContract:
    def served(name: str) -> ServedModel:
        metadata, config = client.get_model_metadata(name), client.get_model_config(name).config
        kind = triton_grpc.model_config_pb2.DataType.Name(config.input[0].data_type).removeprefix("TYPE_")
        return ServedModel(
            name,
            max(metadata.versions, key=int),
            kind,
            tuple(config.input[0].dims),
            {output.name: tuple(output.dims) for output in config.output},
            {name: value.string_value for name, value in config.parameters.items()},
        )

    return contract.read(*(served(name) for name, _ in MODELS))


class Job:
    """What needs no connection but the first: pixels and tags."""

    def __init__(self) -> None:
        self.triton = triton_grpc.InferenceServerClient(PEER["triton"])
        self.contract = read_contract(self.triton)

    def pixels(self, body: bytes) -> list[Pixels]:
        """Prepares one photo, for each of `MODELS`."""
        views = decode(body, self.contract.geometries.values(), PrepareLimits()).views
        return [views[self.contract.geometries[model]] for model, _ in MODELS]

    def tags(self, event: PhotoUploaded, quality: np.ndarray, brands: np.ndarray, source: Source) -> Tags:
        """Decides as the service does."""
        now = datetime.now(UTC)
        return tagging.decide(
            event,
            Scores(float(quality[0]), brands, self.contract.models),
            source,
            self.contract,
            release=1,
            top_k=TOP_K,
            tagged_at=now.replace(microsecond=0),
        )


class SyncJob(Job):
    """Blocking calls, one after the other; may be shared between threads."""

    def __init__(self) -> None:
        super().__init__()
        self.redis = redis.Redis.from_url(PEER["redis"])
        self.script = self.redis.register_script(SCRIPT)
        self.http = urllib3.PoolManager(maxsize=16)

    def fetch(self, uri: str) -> bytes:
        """Reads a file or gets a URL."""
        return read_file(uri) if uri.startswith("file:") else self.http.request("GET", uri).data

    def ask(self, model: str, output: str, batch: Pixels) -> np.ndarray:
        """One output for photos [N, H, W, 3]."""
        asked = [triton_grpc.InferRequestedOutput(output)]
        inputs = [tensor_of(triton_grpc.InferInput, batch)]
        return self.triton.infer(model, inputs, outputs=asked, client_timeout=DEADLINE_S).as_numpy(output)

    def one(self, value: bytes, source: Source) -> Tags:
        """Tags one photo and writes it to Redis."""
        event = parse(value)
        pixels = self.pixels(self.fetch(event.uri))
        quality, brands = (self.ask(*model, seen[np.newaxis])[0] for model, seen in zip(MODELS, pixels, strict=True))
        tags = self.tags(event, quality, brands, source)
        self.script(*script_call(tags))
        return tags


class AsyncJob(Job):
    """Many photos at once in one event loop; files are read in four threads, photos decoded in two."""

    async def open(self) -> None:
        """Connects, in the event loop that will do the work."""
        self.readers, self.decoders = ThreadPoolExecutor(4), ThreadPoolExecutor(2)
        self.async_triton = triton_aio.InferenceServerClient(PEER["triton"])
        pool = redis.asyncio.BlockingConnectionPool.from_url(PEER["redis"], max_connections=16)
        self.script = redis.asyncio.Redis.from_pool(pool).register_script(SCRIPT)
        self.http = aiohttp.ClientSession()

    async def fetch(self, uri: str) -> bytes:
        """Reads a file or gets a URL."""
        if uri.startswith("file:"):
            return await asyncio.get_running_loop().run_in_executor(self.readers, read_file, uri)
        async with self.http.get(uri) as answer:
            return await answer.read()

    async def ask(self, model: str, output: str, batch: Pixels) -> np.ndarray:
        """One output for one photo [1, H, W, 3]."""
        asked = [triton_aio.InferRequestedOutput(output)]
        inputs = [tensor_of(triton_aio.InferInput, batch)]
        answer = await self.async_triton.infer(model, inputs, outputs=asked, client_timeout=DEADLINE_S)
        return answer.as_numpy(output)[0]

    async def one(self, value: bytes, source: Source) -> Tags:
        """Tags one photo and writes it to Redis."""
        event = parse(value)
        body = await self.fetch(event.uri)
        pixels = await asyncio.get_running_loop().run_in_executor(self.decoders, self.pixels, body)
        asked = (self.ask(*model, seen[np.newaxis]) for model, seen in zip(MODELS, pixels, strict=True))
        quality, brands = await asyncio.gather(*asked)
        tags = self.tags(event, quality, brands, source)
        await self.script(*script_call(tags))
        return tags
