"""How much of everything a rate of photos needs, from measured costs, and what binds first as it grows. Pure."""

from dataclasses import dataclass, fields
from math import ceil, floor
from typing import Final

_MS: Final = 1000.0
_BITS: Final = 8
_GIGA: Final = 1e9
#: Of what is asked; beyond, the arithmetic has no numbers.
_LEAST: Final = 1e-6
_MOST: Final = 1e15
#: A worker decodes in two threads; its event loop, gRPC and Kafka's threads take less than a third core.
_CORES_A_WORKER: Final = 3
#: Of the event loop, which is one thread. Its share of `client_ms`.
_LOOP_SHARE: Final = 0.21


@dataclass(frozen=True, slots=True)
class Costs:
    """What one photo costs: milliseconds of CPU time, bytes on the network, bytes that are kept.

    The defaults were measured by `make bench` on two cores of an Intel Xeon (AVX-512, VNNI, AMX) on 2026-11-28: 60 %
    photos of 0.2 MP, 30 % of 2 MP and 10 % of 12 MP from files, the models of the repository on the CPU.

    Attributes:
        client_ms: The service: fetch from a file, decode, requests, Redis, results.
        triton_ms: Both models, in requests of up to eight photos.
        kafka_ms: The broker, for one event and one result.
        redis_ms: Redis, for one write and one look.
        photo_bytes: A photo as it is fetched.
        pixel_bytes: The pixels that Triton gets, of both models' inputs.
        event_bytes: The upload event, and with it the least that a retry or dead letter takes.
        result_bytes: The result, uncompressed.
        redis_bytes: Tags and index entries in Redis, one photo in five with a brand and two in three good.
    """

    client_ms: float = 9.4
    triton_ms: float = 14.3
    kafka_ms: float = 1.0
    redis_ms: float = 0.12
    photo_bytes: float = 346_000
    pixel_bytes: float = 246_000
    event_bytes: float = 250
    result_bytes: float = 495
    redis_bytes: float = 400

    def __post_init__(self) -> None:
        for each in fields(self):
            if not _LEAST <= getattr(self, each.name) <= _MOST:
                raise ValueError(f"{each.name} must be above 0 and at most {_MOST:g}")


@dataclass(frozen=True, slots=True)
class Need:
    """What is needed of one thing, and the arithmetic behind it."""

    what: str
    amount: float
    unit: str
    why: str


@dataclass(frozen=True, slots=True)
class Bound:
    """The rate at which one piece of something is full."""

    what: str
    photos_per_s: float
    then: str


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a rate needs, and the bounds in the order in which they are met."""

    photos_per_s: float
    needs: tuple[Need, ...]
    bounds: tuple[Bound, ...]


def size(photos_per_s: float, stored: float, *, load: float, days: float, costs: Costs) -> Sizing:
    """The sizing for a rate and so many photos with tags, where nothing is busy for more than `load` 0..1 of the time.

    `days` is how long the upload topic keeps its events.

    Raises:
        ValueError: a number is out of its range.
    """
    if not (photos_per_s > 0 and stored >= 0 and 0 < load <= 1 and days >= 0):
        raise ValueError("the rate must be above 0, the load above 0 and at most 1, the others not below 0")
    if not (min(photos_per_s, load) >= _LEAST and max(photos_per_s, stored, days) <= _MOST):
        raise ValueError(f"numbers must be between {_LEAST:g} and {_MOST:g}")

    def cores(cost_ms: float) -> float:
        return photos_per_s * cost_ms / _MS / load

    def why(cost_ms: float) -> str:
        return f"{photos_per_s:,g}/s x {cost_ms:g} ms / {load:g}"

    worker = worker_rate(costs, load)
    workers = ceil(photos_per_s / worker)
    fetched, pixels = (photos_per_s * each * _BITS / _GIGA for each in (costs.photo_bytes, costs.pixel_bytes))
    kept = photos_per_s * 86_400 * days * costs.event_bytes
    needs = (
        Need("cores for the service", cores(costs.client_ms), "cores", why(costs.client_ms)),
        Need(
            "workers", workers, "processes", f"{photos_per_s:g}/s / {worker:.0f}/s of one with {_CORES_A_WORKER} cores"
        ),
        Need("partitions of photo-uploads", max(4, 2 * workers), "", "two for each worker, so that shares are alike"),
        Need("cores for Triton, models on the CPU", cores(costs.triton_ms), "cores", why(costs.triton_ms)),
        Need("cores for Kafka", cores(costs.kafka_ms), "cores", why(costs.kafka_ms)),
        Need("masters of Redis", ceil(cores(costs.redis_ms)), "", f"{why(costs.redis_ms)}, one core each"),
        Need(
            "memory of Redis",
            stored * costs.redis_bytes / _GIGA,
            "GB",
            f"{stored:,.0f} photos x {costs.redis_bytes:g} bytes; twice that while it forks to save",
        ),
        Need("network for photos", fetched, "Gbit/s", f"{photos_per_s:g}/s x {costs.photo_bytes / 1e3:g} kB"),
        Need(
            "network to Triton",
            pixels,
            "Gbit/s",
            f"{photos_per_s:g}/s x {costs.pixel_bytes / 1e3:g} kB of pixels; none on the same host",
        ),
        Need(
            "disk for photo-uploads", kept / _GIGA, "GB", f"{days:g} days x {costs.event_bytes:g} bytes, each replica"
        ),
        Need("disk for photo-tags", stored * costs.result_bytes / _GIGA, "GB", "one result a photo, each replica"),
    )
    return Sizing(photos_per_s, needs, bounds(costs, load))


def worker_rate(costs: Costs, load: float) -> float:
    """Photos a second of one worker with cores enough: its threads decode, or its event loop is full."""
    decoding = (_CORES_A_WORKER - 1) * _MS / (costs.client_ms * (1 - _LOOP_SHARE))
    looping = _MS / (costs.client_ms * _LOOP_SHARE)
    return max(1.0, floor(load * min(decoding, looping)))


def bounds(costs: Costs, load: float) -> tuple[Bound, ...]:
    """What is full at which rate, the lowest first."""
    full = {
        "one core for Triton's models": (load * _MS / costs.triton_ms, "more cores, or a GPU"),
        "one core for the service": (load * _MS / costs.client_ms, "more cores: a worker uses three"),
        "one worker": (worker_rate(costs, load), "more workers, and partitions for them"),
        "a network of 1 Gbit/s, with photos": (
            load * _GIGA / _BITS / costs.photo_bytes,
            "smaller renditions, or 10 Gbit/s",
        ),
        "a network of 1 Gbit/s, to Triton": (load * _GIGA / _BITS / costs.pixel_bytes, "Triton on the service's hosts"),
        "one core of a Kafka broker": (load * _MS / costs.kafka_ms, "more cores and brokers"),
        "one Redis": (load * _MS / costs.redis_ms, "a Redis Cluster (redis.cluster)"),
    }
    found = (Bound(what, rate, then) for what, (rate, then) in full.items())
    return tuple(sorted(found, key=lambda each: each.photos_per_s))
