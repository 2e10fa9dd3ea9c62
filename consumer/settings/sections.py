"""The sections of the settings: each setting with its type, default and meaning."""

from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode

from consumer.events import MAX_CLOCK_AHEAD_S
from consumer.fetch.addresses import check_proxy, parse_allow_list
from consumer.fetch.limits import FetchLimits, HostLimits, Scheme
from consumer.runs.gates import Gates
from consumer.settings.cores import default_threads, default_workers
from consumer.settings.values import (
    CommaSeparated,
    EmptyIsNone,
    Properties,
    StoreOption,
    Stores,
    check_brokers,
    check_collector,
    check_key,
    check_redis,
    check_registry,
    check_stores,
    check_triton,
    checked_by,
)
from consumer.topic_names import TopicNames

_BROKER_SIDE: Final = frozenset({"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"})

PositiveInt = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
#: A week, as `LONGEST_WAIT` of the retry headers.
_LONGEST_DELAY_S: Final = 604_800.0
#: As Kafka names topics.
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Share = Annotated[float, Field(gt=0, le=1)]
_FETCH: Final = FetchLimits()
_HOSTS: Final = HostLimits()
_GATES: Final = Gates()


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KafkaSettings(Section):
    """The Kafka cluster, its topics and the consumer group."""

    bootstrap_servers: Annotated[str, checked_by(check_brokers)] = Field(
        "127.0.0.1:9092", description="Kafka brokers, host:port, comma-separated"
    )
    group_id: Annotated[str, Field(min_length=1)] = Field(
        "photo-tagger", description="consumer group; all replicas use the same"
    )
    uploads_topic: Topic = Field("photo-uploads", description="photo-upload events")
    tags_topic: Topic = Field("photo-tags", description="results, compacted, keyed by photo id")
    dead_topic: Topic = Field("photo-uploads.dead", description="rejected events with their reason")
    retry_topic: Topic = Field("photo-uploads.retry", description="events that wait for their next attempts")
    releases_topic: Topic = Field("photo-releases", description="which models and thresholds are in force, since when")
    runs_topic: Topic = Field("photo-runs", description="rescoring runs; a run's answers are in <name>.<run>")
    first_position: Literal["earliest", "latest"] = Field(
        "earliest", description="where a group without committed offsets starts that never ran before"
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="how the group shares partitions; consumer is KIP-848, for brokers from 4.0"
    )
    instance_id: str = Field(
        "", description="static membership: a unique name of this member; workers append their number"
    )
    extra: Annotated[dict[str, str | int | float | bool], Properties] = Field(
        default_factory=dict, description="further librdkafka properties for every client (security, timeouts)"
    )

    @property
    def topics(self) -> TopicNames:
        """The topics of this installation."""
        own = (self.uploads_topic, self.tags_topic, self.dead_topic, self.retry_topic)
        return TopicNames(*own, self.releases_topic, self.runs_topic)

    @field_validator("extra")
    @classmethod
    def _leaves_the_settings_alone(cls, value: dict[str, object], info: ValidationInfo) -> dict[str, object]:
        own = {
            "bootstrap.servers": "bootstrap_servers",
            "metadata.broker.list": "bootstrap_servers",
            "group.id": "group_id",
            "group.protocol": "group_protocol",
            "group.instance.id": "instance_id",
        }
        for name in own.keys() & value.keys():
            raise ValueError(f"{name} is set by kafka.{own[name]}, not in kafka.extra")
        refused = _BROKER_SIDE & value.keys()
        if info.data.get("group_protocol") == "consumer" and refused:
            names = ", ".join(sorted(refused))
            raise ValueError(f"group_protocol consumer leaves {names} to the broker: take it out of kafka.extra")
        return value

    @model_validator(mode="after")
    def _reads_nothing_that_it_writes(self) -> Self:
        names = {f"{name}_topic": topic for name, topic in asdict(self.topics).items()}
        for one, other in combinations(names, 2):
            if names[one] == names[other]:
                raise ValueError(f"{one} and {other} are the same, {names[one]}: each needs a topic of its own")
        return self


class RegistrySettings(Section):
    """A schema registry that speaks Confluent's protocol (docs/reference/contracts.md)."""

    url: Annotated[str, checked_by(lambda value: value and check_registry(value))] = Field(
        "",
        description="schema registry, http://host:8081, or several with commas between them: results then name their "
        "schema; needs the extra registry. None by default",
    )
    user: Annotated[str, Field(pattern=r"^[^:]*$")] = Field("", description="user of the registry")
    password: SecretStr = Field(SecretStr(""), description="password of that user")
    ca: Annotated[Path | None, EmptyIsNone] = Field(
        None, description="PEM file of the authorities that sign the registry's certificate; else the public ones"
    )

    @model_validator(mode="after")
    def _belongs_to_a_registry(self) -> Self:
        if bool(self.user) != bool(self.password.get_secret_value()):
            raise ValueError("user and password go together: set both, or none")
        if (self.user or self.ca) and not self.url:
            raise ValueError("user, password and ca are for a registry: set registry.url")
        return self


class RedisSettings(Section):
    """The Redis that stores the tags."""

    url: Annotated[str, checked_by(check_redis)] = Field(
        "redis://127.0.0.1:6379/0", description="redis://, rediss:// or unix://"
    )
    timeout_s: Seconds = Field(2.0, description="deadline of one command")
    cluster: bool = Field(default=False, description="the URL names a node of a Redis Cluster")


class GateSettings(Section):
    """What a run may change at most to be promoted without --force; shares of its photos."""

    min_photos: PositiveInt = Field(_GATES.min_photos, description="photos that must be compared, at least")
    max_level_jumps: Share = Field(_GATES.max_level_jumps, description="photos whose level changes by 2 or more")
    max_brands_lost: Share = Field(
        _GATES.max_brands_lost, description="photos with brands that lose all of them, of those"
    )
    max_mean_shift: Share = Field(_GATES.max_mean_shift, description="mean change of the score, up or down")
    max_not_judged: Share = Field(_GATES.max_not_judged, description="photos that could not be judged")


class DedupeSettings(Section):
    """The score cache in Redis, for copies of photos that were judged before."""

    enabled: bool = Field(default=True, description="keep scores by content hash and model versions")
    ttl_s: PositiveInt = Field(7 * 24 * 3600, description="how long a score is kept, seconds")
    max_entries: PositiveInt = Field(200_000, description="most entries; new ones overwrite old ones")


class TritonSettings(Section):
    """The Triton server and its models."""

    url: Annotated[str, checked_by(check_triton)] = Field(
        "127.0.0.1:8001", description="host:port of Triton's gRPC endpoint"
    )
    quality_model: str = Field("photo_quality", description="name of the quality model")
    brand_model: str = Field("brand_logo", description="name of the brand model")
    deadline_s: Seconds = Field(
        5.0, description="in which a healthy Triton answers an inference; none for as long is an outage"
    )
    repository: Annotated[Path | None, EmptyIsNone] = Field(
        None, description="folder of the model repository that Triton serves; `photo-tagger models` needs it"
    )
    config_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = Field(
        "cpu", description="configuration that Triton was started with, its --model-config-name"
    )
    admin_key: Annotated[SecretStr, checked_by(check_key)] = Field(
        SecretStr(""),
        description="key to load and retire models, Triton's TRITON_ADMIN_KEY (docs/how-to/deploy-compose.md)",
    )
    tls: bool = Field(default=False, description="Triton's gRPC endpoint speaks TLS (docs/how-to/secure.md)")
    tls_ca: Annotated[Path | None, EmptyIsNone] = Field(
        None, description="PEM file of the authorities that sign Triton's certificate; else those that gRPC carries"
    )
    tls_certificate: Annotated[Path | None, EmptyIsNone] = Field(
        None, description="PEM file of this client's certificate, where Triton wants one"
    )
    tls_key: Annotated[Path | None, EmptyIsNone] = Field(None, description="PEM file of its private key")
    load_timeout_s: Seconds = Field(
        300.0, description="longest load of a model version: an engine for a GPU takes minutes, others seconds"
    )

    @model_validator(mode="after")
    def _uses_its_files(self) -> Self:
        files = {name: getattr(self, name) for name in ("tls_ca", "tls_certificate", "tls_key")}
        given = next((name for name, path in files.items() if path is not None), None)
        if given is not None and not self.tls:
            raise ValueError(f"{given} is for TLS: set triton.tls=true, or leave it out")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: set both, or none")
        return self


class FetchSettings(Section):
    """How photos are fetched, and from where."""

    schemes: Annotated[tuple[Scheme, ...], NoDecode, CommaSeparated] = Field(
        _FETCH.schemes, description="URI schemes that are allowed"
    )
    file_root: Annotated[Path | None, EmptyIsNone] = Field(
        _FETCH.file_root, description="file: URIs are read below this folder only"
    )
    allow_addresses: Annotated[tuple[str, ...], NoDecode, CommaSeparated, checked_by(parse_allow_list)] = Field(
        _FETCH.allow_addresses, description="private hosts that may be fetched from: host:port, address:port or CIDR"
    )
    stores: Annotated[dict[str, dict[str, Annotated[str, StoreOption]]], NoDecode, Stores, checked_by(check_stores)] = (
        Field(
            default_factory=dict,
            description="allowed buckets: s3://bucket, gs://bucket, az://container, each with options of its client "
            "(endpoint, region, access_key_id, ...); the others come from the cloud's own environment variables",
        )
    )
    proxy: Annotated[str | None, EmptyIsNone, checked_by(check_proxy)] = Field(
        _FETCH.proxy, description="egress proxy for http, https and stores: http://user:password@host:port"
    )
    max_bytes: PositiveInt = Field(_FETCH.max_bytes, description="largest photo, bytes")
    max_redirects: Annotated[int, Field(ge=0, le=20)] = Field(
        _FETCH.max_redirects, description="redirects followed, each checked"
    )
    connect_timeout_s: Seconds = Field(_FETCH.connect_timeout_s, description="until connected")
    read_timeout_s: Seconds = Field(_FETCH.read_timeout_s, description="between two reads")
    total_timeout_s: Seconds = Field(_FETCH.total_timeout_s, description="of a whole download")
    not_found_grace_s: Annotated[float, Field(ge=0)] = Field(
        _FETCH.not_found_grace_s,
        description="a photo that is missing, empty, cut off or unreadable is retried until its upload is this old, "
        "for it may be under way; 0 makes that final at once",
    )
    attempts: PositiveInt = Field(
        4, description="attempts of a fetch with transient failures, before the event goes to the retry topic"
    )


class HostSettings(Section):
    """When a photo host counts as down, so that its photos wait for it."""

    failure_threshold: PositiveInt = Field(
        _HOSTS.failure_threshold,
        description="different photos in a row without an answer, after which a host that worked is probed",
    )
    startup_failure_threshold: PositiveInt = Field(
        _HOSTS.startup_failure_threshold,
        description="different failed photos that make a host count as down, if no host answered since the start",
    )
    healthy_s: Seconds = Field(
        _HOSTS.healthy_s, description="photos wait in place only if no other host answered for this long"
    )
    max_wait_s: Seconds = Field(
        _HOSTS.max_wait_s, description="longest wait of a photo in place, before it goes to the retry topic"
    )
    max_outage_s: Seconds = Field(
        _HOSTS.max_outage_s, description="longest outage that photos wait for; after it, they use up their attempts"
    )
    probe_interval_s: Seconds = Field(_HOSTS.probe_interval_s, description="interval of the probes of a host")
    overdue_s: Seconds = Field(_HOSTS.overdue_s, description="time after which a fetch counts as late")
    max_share: Share = Field(
        _HOSTS.max_share, description="part of the places in flight that a host without answers may hold"
    )
    max_total_share: Share = Field(
        _HOSTS.max_total_share, description="part of the places in flight for all hosts without answers together"
    )


class PrepareSettings(Section):
    """How photos are decoded."""

    max_pixels: PositiveInt = Field(51_000_000, description="largest width x height that is decoded")
    max_side: PositiveInt = Field(30_000, description="longest side that is decoded, pixels")
    min_side: PositiveInt = Field(16, description="shortest side that is accepted, pixels")
    max_scans: PositiveInt = Field(100, description="most scans of a progressive JPEG")
    max_decode_bytes: PositiveInt = Field(
        800 * 1024 * 1024,
        description="memory budget of all decodes in one process, bytes; a photo that needs more is rejected",
    )
    max_decode_cpu_s: Seconds = Field(
        1.6, description="most estimated CPU time of a decode, seconds on the core in docs/explanation/imaging.md"
    )
    exact: bool = Field(
        default=False, description="exactly the pixels of training: JPEG at full scale, up to five times slower"
    )
    icc: Literal["ignore", "srgb"] = Field("ignore", description="embedded colour profiles: as in training, or to sRGB")
    heic: bool = Field(default=False, description="read HEIC; needs the extra heic (GPLv2)")
    threads: Annotated[int, Field(ge=1, le=64)] = Field(
        default_factory=default_threads, description="decoding threads of a worker; by default from the cores at hand"
    )
    timeout_s: Seconds = Field(20.0, description="longest decode")
    overdue_grace_s: Seconds = Field(
        10.0, description="a decode that runs this long after its timeout ends the process, to be replaced"
    )


class ServiceSettings(Section):
    """How the service as a whole behaves."""

    max_in_flight: Annotated[int, Field(ge=1, le=16_384)] = Field(64, description="records in flight at once")
    max_in_flight_bytes: PositiveInt = Field(
        256 * 1024 * 1024,
        description="bytes of fetched photos in flight in one process; a larger photo is fetched alone",
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default_factory=default_workers,
        description="processes that `run` starts, in one group; by default one for each 3 cores at hand, 4 at most",
    )
    replay_in_flight: Annotated[int, Field(ge=1, le=16_384)] = Field(
        16, description="most records in flight at once in a replay, which are fewer while others use Triton"
    )
    replay_yields: bool = Field(
        default=True, description="a replay leaves cores and Triton to live photos; false: it competes with them"
    )
    drain_timeout_s: Seconds = Field(10.0, description="after SIGTERM: deadline for the records in flight")
    stuck_after_s: Seconds = Field(
        600.0, description="a record without an outcome for so long (a retry: from its time on) makes /ready 503"
    )
    top_k: PositiveInt = Field(5, description="most brands tagged on one photo")
    max_clock_ahead_s: Annotated[float, Field(ge=0)] = Field(
        MAX_CLOCK_AHEAD_S,
        description="how far the time of an event may be ahead of its record's; one from a wrong clock would outrank "
        "every later event of the photo",
    )
    dead_letter_limit: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="ratio of dead letters among the outcomes of a minute that opens the breaker; 0 never does"
    )
    # Fewer may be one sender's bad photos; more are a broken host or model.
    dead_letter_least: PositiveInt = Field(200, description="outcomes in that minute below which it never opens")
    dead_letter_pause_s: Seconds = Field(30.0, description="how long it stays open, before it admits a few records")


class RetrySettings(Section):
    """How long a photo with transient failures is retried, before it becomes a dead letter."""

    rounds: Annotated[int, Field(ge=0, le=100)] = Field(3, description="waits in the retry topic; 0 for none")
    delays_s: Annotated[
        tuple[Annotated[float, Field(gt=0, le=_LONGEST_DELAY_S)], ...], NoDecode, CommaSeparated, Field(min_length=1)
    ] = Field((10.0, 60.0, 300.0), description="length of each wait; the last one is for all further rounds")
    max_waiting: Annotated[int, Field(ge=1, le=8_192)] = Field(
        1_024, description="records of the retry topic in flight at once, including those that wait"
    )
    max_waiting_bytes: PositiveInt = Field(
        64 * 1024 * 1024,
        description="bytes of these records; at half of either bound, what is far ahead moves to the topic's end",
    )


class HealthSettings(Section):
    """The HTTP endpoint for probes and metrics: /live, /ready, /metrics."""

    enabled: bool = Field(default=True, description="serve probes and metrics")
    host: str = Field("127.0.0.1", description="address to bind; 0.0.0.0 in a container")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(9400, description="port to bind; 0 takes a free one")


class WebSettings(Section):
    """The pages of `photo-tagger web`."""

    host: str = Field("127.0.0.1", description="address to bind; others than loopback need web.open_to_network")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8080, description="port to bind; 0 takes a free one")
    open_to_network: bool = Field(
        default=False, description="bind an address that other machines reach: the pages ask nobody who they are"
    )
    names: Annotated[tuple[str, ...], NoDecode, CommaSeparated] = Field(
        (), description="host names that browsers may ask for, beside localhost and addresses (docs/how-to/web.md)"
    )
    allow_changes: bool = Field(default=False, description="dead letters can be sent again from their page")
    photos: Annotated[int, Field(ge=1, le=100_000)] = Field(
        2_000, description="the newest results that are kept in memory, to be filtered and sorted"
    )


class LogSettings(Section):
    """The level and the format of the log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON lines"
    )


class TracingSettings(Section):
    """Traces of photos, sent to an OpenTelemetry collector."""

    endpoint: Annotated[str, checked_by(lambda value: value and check_collector(value))] = Field(
        "",
        description="collector that takes OTLP over HTTP, http://host:4318; needs the extra otel "
        "(docs/how-to/trace.md); without it, as OTEL_EXPORTER_OTLP_ENDPOINT says, and without that there are no traces",
    )
    headers: Annotated[SecretStr, checked_by(check_key)] = Field(
        SecretStr(""), description="headers for the collector, name=value,name=value; else OTEL_EXPORTER_OTLP_HEADERS"
    )
    sample_ratio: Annotated[Annotated[float, Field(ge=0, le=1)] | None, EmptyIsNone] = Field(
        None, description="share of the traces that begin here that is recorded; else OTEL_TRACES_SAMPLER, else all"
    )
    service_name: str = Field("", description="service.name of the traces; else OTEL_SERVICE_NAME, else photo-tagger")
