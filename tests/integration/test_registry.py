"""The service and its commands beside a real schema registry, read and written by the clients of its protocol."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from confluent_kafka import Message
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from consumer.doctor import registry as doctor
from consumer.embedded.servers import Servers
from consumer.errors import DependencyDown, Refused
from consumer.events import DELETED, TAGGED, UPLOADED, decode_tags, encode
from consumer.kafka.registry import Registry, subjects
from consumer.operations.registration import register
from consumer.operations.schemas import kinds
from consumer.reader import Tags, Watch
from consumer.settings import Settings
from tests import registry_server
from tests.harness import RED, World, by_key, eventually
from tests.harness_process import environment, photo_tagger
from tests.registry_server import RegistryServer
from training.trial.topic import tagged_of


@pytest.fixture(scope="module")
def server(servers: Servers) -> Iterator[RegistryServer]:
    if not registry_server.folder().is_dir():
        pytest.skip("no schema registry here: scripts/setup test brings it where Maven reaches Maven Central")
    running = RegistryServer(servers._guardian)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def client(server: RegistryServer) -> Iterator[SchemaRegistryClient]:
    """Another program's client of the registry."""
    with SchemaRegistryClient({"url": server.url}) as found:
        yield found


@pytest.fixture
def registered(world: World, server: RegistryServer) -> World:
    """A world with the registry, which has its schemas."""
    world.settings = with_registry(world.settings, server.url)
    register(world.settings)
    return world


def with_registry(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"registry": Settings(registry={"url": url}).registry})


def subject_of(world: World, kind: str) -> str:
    return subjects(world.settings.kafka.topics)[kind]


def number_in(message: Message) -> int:
    value = message.value() or b""
    assert value[:1] == b"\0"
    return int.from_bytes(value[1:5])


def verdicts(settings: Settings) -> list[str]:
    return [each.verdict for each in doctor.examine(settings)]


async def test_results_name_their_schema_and_the_registrys_own_client_reads_them(
    registered: World, client: SchemaRegistryClient
) -> None:
    registered.photos.answers["red"] = RED
    async with registered.service():
        registered.upload("red")
        await eventually(registered.tags)
        registered.delete("red")
        await eventually(lambda: len(registered.tags()) == 2)
    result, deletion = registered.tags()
    assert number_in(result) == client.get_latest_version(subject_of(registered, TAGGED)).schema_id
    context = SerializationContext(str(result.topic()), MessageField.VALUE)
    read = JSONDeserializer(None, schema_registry_client=client)(result.value(), context)
    assert (read["photo_id"], read["brands"][0]["brand"]) == ("red", "crimson")
    assert read == json.loads(encode(decode_tags(result.value() or b"")))
    assert deletion.value() is None


async def test_events_of_the_registrys_own_client_are_tagged(registered: World, client: SchemaRegistryClient) -> None:
    registered.photos.answers["red"] = RED
    settings = registered.settings
    subject = subject_of(registered, UPLOADED)
    options = {"auto.register.schemas": False, "use.latest.version": True, "subject.name.strategy": lambda *_: subject}
    schema = client.get_latest_version(subject).schema
    serializer = JSONSerializer(schema, client, conf=options)
    event = {"photo_id": "red", "uri": f"{registered.photos.url}/red", "uploaded_at": "2026-11-29T10:00:00Z"}
    value = serializer(event, SerializationContext(settings.kafka.uploads_topic, MessageField.VALUE))
    assert value is not None
    assert value[:1] == b"\0"
    async with registered.service():
        registered.send("red", value, UPLOADED)
        await eventually(registered.tags)
    assert registered.dead() == []


async def test_who_reads_results_reads_past_the_numbers(registered: World) -> None:
    registered.photos.answers["red"] = RED
    async with registered.service():
        registered.upload("red")
        registered.upload("other", "red")
        await eventually(lambda: set(by_key(registered.tags())) == {"red", "other"})
        registered.delete("other")
        await eventually(lambda: by_key(registered.tags())["other"].value() is None)
    assert {number_in(each) for each in registered.tags() if each.value()} != {0}
    with Watch(registered.kafka, topic=registered.settings.kafka.tags_topic, idle_s=2) as watch:
        changes = list(watch)
    assert {each.photo_id for each in changes if isinstance(each, Tags)} == {"red", "other"}
    assert watch.skipped == 0
    checked = photo_tagger("rebuild", "--check", env=environment(registered.settings))
    assert (checked.returncode, '"outcomes":{"same":3}' in checked.stderr) == (0, True)
    assert sampled(registered) == "red"


def sampled(world: World) -> str:
    """The id of a photo, as a trial reads it."""
    values = [value for each in world.tags() if (value := each.value()) and each.key() == b"red"]
    return tagged_of(values[-1])[0].photo_id


async def test_a_service_waits_for_its_schema_and_says_how_to_register_it(world: World, server: RegistryServer) -> None:
    world.settings = with_registry(world.settings, server.url)
    assert verdicts(world.settings) == ["failure", "warning", "warning"]
    world.photos.answers["red"] = RED
    world.upload("red")

    def waits() -> bool:
        said = [str(line) for line in world.events_logged("dependency.lost")]
        return any("has no schema; register it: `photo-tagger schemas --register`" in line for line in said)

    async def tags_once() -> None:
        async with world.service():
            await eventually(world.tags)

    tagging = asyncio.create_task(tags_once())
    await eventually(waits)
    assert world.tags() == []
    await asyncio.to_thread(register, world.settings)
    await tagging
    assert verdicts(world.settings) == ["ok", "ok", "ok"]


def test_schemas_are_registered_once_and_a_change_that_breaks_is_refused(
    world: World, server: RegistryServer, client: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_registry(world.settings, server.url)
    env = environment(settings, TAGGER_REGISTRY__URL=server.url)
    told = [photo_tagger("schemas", "--register", env=env) for _ in range(2)]
    assert [each.returncode for each in told] == [0, 0]
    assert [json.loads(line)["outcome"] for each in told for line in each.stdout.splitlines()] == [
        *["registered"] * 3,
        *["unchanged"] * 3,
    ]
    levels = {kind: client.get_compatibility(subject_of(world, kind)) for kind in (TAGGED, UPLOADED, DELETED)}
    assert levels == {TAGGED: "FORWARD", UPLOADED: "BACKWARD", DELETED: "BACKWARD"}

    def changed(kind: str) -> kinds.Schema:
        schema = kinds.schema_of(kind)
        if kind == UPLOADED:
            schema["required"] = [*schema["required"], "place"]
        return schema

    monkeypatch.setattr("consumer.operations.registration.schema_of", changed)
    with pytest.raises(Refused, match=r"photo.uploaded of this version does not fit .* BACKWARD; nothing was changed"):
        register(settings)
    assert client.get_versions(subject_of(world, UPLOADED)) == [1]


async def test_a_schema_of_another_program_is_not_named(
    registered: World, server: RegistryServer, client: SchemaRegistryClient
) -> None:
    subject = subject_of(registered, TAGGED)
    client.set_compatibility(subject, "NONE")
    foreign = {"title": TAGGED, "type": "object", "properties": {"mood": {}}, "required": ["mood"]}
    number = client.register_schema(subject, Schema(json.dumps(foreign), "JSON"))
    with pytest.raises(DependencyDown, match=f"the newest schema of {subject}, {number}, is not {TAGGED} of this"):
        Registry(server.url).frame(subject, TAGGED)
    assert verdicts(registered.settings) == ["failure", "ok", "ok"]
