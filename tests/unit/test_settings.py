import json
import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from consumer import settings
from consumer.errors import SettingsError
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.limits import FetchLimits
from consumer.kafka.headers import LONGEST_WAIT
from consumer.settings import Row, Settings, load
from consumer.settings.sections import RetrySettings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory and an environment without our variables."""
    for name in os.environ:
        if name.upper().startswith("TAGGER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown() -> dict[str, Row]:
    return {row.name: row for row in settings.rows(load())}


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load()
    return str(caught.value)


def test_without_file_and_environment_every_setting_has_its_default() -> None:
    assert load() == Settings()
    assert {row.origin for row in shown().values()} == {"default"}


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "tagger.toml").write_text('[kafka]\ngroup_id = "of-the-file"\nuploads_topic = "uploads-of-the-file"\n')
    monkeypatch.setenv("TAGGER_KAFKA__GROUP_ID", "of-the-environment")
    loaded = load()
    assert loaded.kafka.group_id == "of-the-environment"
    assert loaded.kafka.uploads_topic == "uploads-of-the-file"
    assert loaded.kafka.tags_topic == "photo-tags"


def test_settings_can_be_made_of_variables_whatever_environment_and_file_say(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "tagger.toml").write_text('[kafka]\nuploads_topic = "of-the-file"\n')
    monkeypatch.setenv("TAGGER_KAFKA__GROUP_ID", "of-the-environment")
    monkeypatch.setenv("TAGGER_REDIS__URL", "redis://of-the-environment:1")
    made = settings.made_of(
        {
            "TAGGER_REDIS__URL": "redis://given:2",
            "TAGGER_RETRY__ROUNDS": "0",
            "TAGGER_FETCH__SCHEMES": "http,https",
            "TAGGER_FETCH__ALLOW_ADDRESSES": "127.0.0.1:1,127.0.0.1:2",
        }
    )
    assert (made.redis.url, made.retry.rounds, made.fetch.schemes) == ("redis://given:2", 0, ("http", "https"))
    assert made.fetch.allow_addresses == ("127.0.0.1:1", "127.0.0.1:2")
    monkeypatch.undo()
    assert made.kafka == Settings().kafka
    with pytest.raises(ValidationError, match="extra_forbidden"):
        settings.made_of({"TAGGER_REDIS__URI": "redis://given:2"})


def test_the_origin_of_each_value_is_shown(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "tagger.toml").write_text('[kafka]\ngroup_id = "a"\nuploads_topic = "b"\n')
    monkeypatch.setenv("TAGGER_KAFKA__GROUP_ID", "c")
    rows = shown()
    assert rows["kafka.group_id"].origin == "environment TAGGER_KAFKA__GROUP_ID"
    assert rows["kafka.uploads_topic"].origin == "file tagger.toml"
    assert rows["kafka.tags_topic"].origin == "default"
    assert (rows["kafka.group_id"].value, rows["kafka.uploads_topic"].value) == ("c", "b")


def test_a_section_is_not_set_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA", '{"group_id": "mine"}')
    assert "unknown setting TAGGER_KAFKA" in refusal()


def test_another_file_is_named_by_the_environment(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "tagger.toml").write_text('[kafka]\ngroup_id = "ignored"\n')
    other = bare / "other.toml"
    other.write_text('[kafka]\ngroup_id = "used"\n')
    monkeypatch.setenv("TAGGER_CONFIG", str(other))
    assert load().kafka.group_id == "used"
    assert shown()["kafka.group_id"].origin == f"file {other}"


def test_a_file_that_is_named_and_missing_is_an_error_that_names_it(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_CONFIG", str(bare / "gone.toml"))
    assert "gone.toml" in refusal()
    assert "No such file" in refusal()


@pytest.mark.parametrize("content", [b"[kafka", b"kafka = \xff", b"group_id = "])
def test_a_file_that_is_no_toml_is_an_error_that_names_it(content: bytes, bare: Path) -> None:
    (bare / "tagger.toml").write_bytes(content)
    assert "settings file tagger.toml" in refusal()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[kafka]\ngroupid = "x"\n', "kafka.groupid"),
        ("[kafak]\n", "kafak"),
        ("max_in_flight = 5\n", "max_in_flight"),
        ('kafka = "localhost"\n', "kafka"),
        ("[service]\nmax_in_flight = 0\n", "service.max_in_flight"),
        ("[fetch]\ntotal_timeout_s = 0\n", "fetch.total_timeout_s"),
        ('[log]\nlevel = "loud"\n', "log.level"),
        ('[kafka]\nfirst_position = "middle"\n', "kafka.first_position"),
    ],
)
def test_a_wrong_key_or_value_of_the_file_is_an_error_that_names_key_and_file(text: str, name: str, bare: Path) -> None:
    (bare / "tagger.toml").write_text(text)
    assert f"{name} (from tagger.toml)" in refusal()


@pytest.mark.parametrize("name", ["TAGGER_GROUP_ID", "TAGGER_KAFKA__GROUPID", "TAGGER_KAFKA_GROUP_ID", "tagger_typo"])
def test_an_unknown_variable_with_our_prefix_is_an_error_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    assert name.upper() in refusal()


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA__GROUP_ID", "x")
    monkeypatch.setenv("TAGGER_CACHE_DIR", "x")
    assert load() == Settings()


def test_a_wrong_value_of_the_environment_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__MAX_BYTES", "many")
    assert "fetch.max_bytes (from TAGGER_FETCH__MAX_BYTES)" in refusal()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TAGGER_KAFKA__EXTRA", "{bad", "TAGGER_KAFKA__EXTRA: it is no JSON: Expecting"),
        ("TAGGER_KAFKA__EXTRA", "[1]", "kafka.extra (from TAGGER_KAFKA__EXTRA"),
        (
            "TAGGER_KAFKA__EXTRA",
            '{"group.protocol": "consumer"}',
            "kafka.extra (from TAGGER_KAFKA__EXTRA): group.protocol",
        ),
        (
            "TAGGER_KAFKA__EXTRA__GROUP.INSTANCE.ID",
            "a",
            "kafka.extra (from TAGGER_KAFKA__EXTRA__GROUP.INSTANCE.ID): group.instance.id is set by kafka.instance_id",
        ),
        (
            "TAGGER_KAFKA__EXTRA__GROUP__ID",
            "c",
            "kafka.extra (from TAGGER_KAFKA__EXTRA__GROUP__ID): group.id is set by kafka.group_id",
        ),
        ("tagger_kafka__first_position", "middle", "kafka.first_position (from tagger_kafka__first_position): "),
        (
            "TAGGER_FETCH__ALLOW_ADDRESSES",
            "10.0.0.0/99",
            "fetch.allow_addresses (from TAGGER_FETCH__ALLOW_ADDRESSES): ",
        ),
        ("TAGGER_RETRY__DELAYS_S", "1,x", "retry.delays_s.1 (from TAGGER_RETRY__DELAYS_S): "),
    ],
)
@pytest.mark.parametrize("file", ["", '[kafka]\ngroup_id = "a"\n[kafka.extra]\n"client.rack" = "b"\n'])
def test_a_wrong_variable_is_named_as_it_is_written_and_no_file_is(
    name: str, value: str, said: str, file: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file:
        (bare / "tagger.toml").write_text(file)
    monkeypatch.setenv(name, value)
    found = refusal()
    assert said in found
    assert "EnvSettingsSource" not in found
    assert ("tagger.toml" in found) == (value == "[1]" and bool(file))


def test_a_wrong_key_below_a_table_of_the_file_is_named_with_the_file(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "tagger.toml").write_text('[kafka.extra]\n"group.instance.id" = "a"\n"client.rack" = ["b"]\n')
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA__SECURITY.PROTOCOL", "ssl")
    assert "kafka.extra (from tagger.toml): client.rack: " in refusal()
    (bare / "tagger.toml").write_text('[kafka.extra]\n"nonsense.property" = "a"\n')
    assert (
        settings.located("kafka.extra.nonsense.property", "no")
        == "kafka.extra.nonsense.property (from tagger.toml): no"
    )
    assert "(from TAGGER_KAFKA__EXTRA__SECURITY.PROTOCOL): no" in settings.located(
        "kafka.extra.security.protocol", "no"
    )
    both = "kafka.extra (from TAGGER_KAFKA__EXTRA__SECURITY.PROTOCOL, tagger.toml): no"
    assert settings.located("kafka.extra", "no") == both


def test_a_value_of_the_file_that_a_variable_replaces_is_not_blamed(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "tagger.toml").write_text('[fetch]\nmax_bytes = 5\nschemes = ["https"]\n')
    monkeypatch.setenv("TAGGER_FETCH__MAX_BYTES", "many")
    monkeypatch.setenv("TAGGER_FETCH__SCHEMES", "https,ftp")
    assert "fetch.max_bytes (from TAGGER_FETCH__MAX_BYTES): " in refusal()
    assert "fetch.schemes.1 (from TAGGER_FETCH__SCHEMES): " in refusal()


def test_what_is_set_nowhere_is_a_default() -> None:
    assert settings.located("kafka.extra", "no") == "kafka.extra (from the defaults): no"


@pytest.mark.parametrize(
    "value", ["", "a:99999", "a:b", "a:0", ":9092", "a:9092,", "a:1,b:c", "a b:9092", "a:1;b:2", "a:1/kafka", "me@a:1"]
)
def test_brokers_that_are_no_addresses_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__BOOTSTRAP_SERVERS", value)
    assert "kafka.bootstrap_servers (from TAGGER_KAFKA__BOOTSTRAP_SERVERS): not host:port" in refusal()


@pytest.mark.parametrize("value", ["http://a:9092", "a:1,kafka://b:1", "tcp://a:1"])
def test_a_protocol_that_kafka_has_not_is_refused_with_those_that_it_has(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__BOOTSTRAP_SERVERS", value)
    assert "or one of plaintext, sasl_plaintext, sasl_ssl, ssl before ://" in refusal()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("TRITON__URL", value) for value in ("", "http://triton:8001", "GRPC://triton:8001", "a:1/")),
        *(("KAFKA__UPLOADS_TOPIC", value) for value in ("", "a b", "a/b", "\u00fc", "a" * 250)),
        ("KAFKA__GROUP_ID", ""),
    ],
)
def test_what_no_server_takes_is_refused_at_the_start(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TAGGER_{name}", value)
    assert f"(from TAGGER_{name}): " in refusal()


def test_topics_of_one_name_are_refused_by_the_variable_that_made_them_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__GROUP_ID", "g")
    monkeypatch.setenv("TAGGER_KAFKA__TAGS_TOPIC", "photo-uploads")
    assert (
        "kafka (from TAGGER_KAFKA__TAGS_TOPIC): uploads_topic and tags_topic are the same, photo-uploads" in refusal()
    )


def test_an_empty_variable_has_no_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA", "")
    assert load().kafka.extra == {}


@pytest.mark.parametrize("value", ["triton:8001", "dns:///triton:8001", "[::1]:8001", "unix:/run/triton"])
def test_triton_is_what_grpc_takes(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_TRITON__URL", value)
    assert load().triton.url == value


@pytest.mark.parametrize("value", ["a", "a:1, b:2", "SASL_SSL://a:1", "[::1]:9092", "10.0.0.1:9092"])
def test_brokers_are_what_librdkafka_takes(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__BOOTSTRAP_SERVERS", value)
    assert load().kafka.bootstrap_servers == value


#: The client would read the first database where there is no number.
REDIS = ["redis://h/db1", "redis://h:6379/0/1", "unix://", "unix://run", "REDIS://h", "redis://h,g"]


@pytest.mark.parametrize(
    "value", ["foo", "", "http://redis:6379", "redis://", "redis://h:99999", "redis://h:b/0", *REDIS]
)
def test_a_url_that_is_no_redis_is_refused_without_its_password(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_REDIS__URL", value.replace("://h", f"://:{SECRET}@h"))
    assert "redis.url (from TAGGER_REDIS__URL): not redis://host:port" in refusal()
    assert SECRET not in refusal()


@pytest.mark.parametrize("url", ["redis://:{}/a@h", "rediss://u:1?{}@h:1/0", "redis://:1#{}@h", "redis://u:[{}@h:1"])
def test_a_password_that_no_url_can_hold_is_refused_without_a_piece_of_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_REDIS__URL", url.format(SECRET))
    assert "redis.url (from TAGGER_REDIS__URL): percent-encode what is special in the password" in refusal()
    assert SECRET not in refusal()


@pytest.mark.parametrize(
    "url", ["redis://u:p%2Fa@h:1/0", "redis://u:p@q@h", "redis://h?password=a@b", "unix://u:p@/run/a.sock"]
)
def test_a_password_in_a_url_may_hold_anything_as_clients_read_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_REDIS__URL", url)
    assert load().redis.url == url


def test_a_wrong_entry_of_a_list_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__SCHEMES", "https,ftp")
    assert "TAGGER_FETCH__SCHEMES" in refusal()


def test_every_wrong_setting_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__MAX_BYTES", "0")
    monkeypatch.setenv("TAGGER_HEALTH__PORT", "70000")
    assert "fetch.max_bytes" in refusal()
    assert "health.port" in refusal()


def test_an_error_repeats_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA", f'{{"sasl.password": ["{SECRET}"]}}')
    assert SECRET not in refusal()


def test_lists_are_comma_separated_in_the_environment_and_lists_in_the_file(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "tagger.toml").write_text('[fetch]\nallow_addresses = ["10.0.0.0/8", "photos:80"]\n')
    monkeypatch.setenv("TAGGER_FETCH__SCHEMES", "https, file,,http ")
    assert load().fetch.schemes == ("https", "file", "http")
    assert load().fetch.allow_addresses == ("10.0.0.0/8", "photos:80")
    assert shown()["fetch.schemes"].value == "https, file, http"


def test_an_empty_list_of_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__ALLOW_ADDRESSES", "")
    assert load().fetch.allow_addresses == ()


def test_an_empty_root_folder_of_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__FILE_ROOT", "")
    assert load().fetch.file_root is None


def test_further_kafka_properties_come_as_json_or_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA", '{"security.protocol": "SASL_SSL"}')
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA__CLIENT.RACK", "a")
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA__SASL__MECHANISM", "PLAIN")
    assert load().kafka.extra == {"security.protocol": "SASL_SSL", "client.rack": "a", "sasl.mechanism": "PLAIN"}


def test_properties_in_the_file_need_no_quotes_around_their_dots(bare: Path) -> None:
    (bare / "tagger.toml").write_text(
        '[kafka.extra]\nsecurity.protocol = "ssl"\nssl.ca.location = "/ca"\nlog_level = 6\n'
    )
    assert load().kafka.extra == {"security.protocol": "ssl", "ssl.ca.location": "/ca", "log_level": 6}


def test_a_property_of_another_type_is_told_in_one_line(bare: Path) -> None:
    (bare / "tagger.toml").write_text('[kafka.extra]\nssl.ca.location = ["/ca"]\n')
    detail = "ssl.ca.location: a property is a text, a number, true or false"
    assert refusal() == f"settings are wrong: kafka.extra (from tagger.toml): {detail}"


@pytest.mark.parametrize("name", ["bootstrap.servers", "metadata.broker.list", "group.id"])
def test_what_has_a_setting_of_its_own_is_no_further_property(name: str, bare: Path) -> None:
    (bare / "tagger.toml").write_text(f'[kafka.extra]\n{name} = "a"\n')
    assert f"{name} is set by kafka." in refusal()


def test_a_byte_order_mark_is_no_part_of_the_file_and_another_encoding_is_named(bare: Path) -> None:
    (bare / "tagger.toml").write_text('\ufeff[kafka]\ngroup_id = "g"\n', encoding="utf-8")
    assert load().kafka.group_id == "g"
    (bare / "tagger.toml").write_text('[kafka]\ngroup_id = "g"\n', encoding="utf-16")
    assert refusal().endswith("tagger.toml: it is not UTF-8")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@redis:6379/0",
        f"rediss://tagger:{SECRET}@redis:6379/0",
        f"unix://tagger:{SECRET}@/run/redis.sock",
        pytest.param(
            f"redis://tagger:p@{SECRET}@redis:6379/0",
        ),
        pytest.param(
            f"redis://redis:6379/0?password={SECRET}",
        ),
        f"rediss://redis:6379/0?ssl_keyfile=/k&ssl_password={SECRET}&db=1",
    ],
)
def test_the_password_of_a_url_is_masked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_REDIS__URL", url)
    value = shown()["redis.url"].value
    assert SECRET not in value
    assert "***" in value


def test_a_url_without_a_password_is_shown_as_it_is() -> None:
    assert settings.mask_url("redis://redis:6379/0") == "redis://redis:6379/0"
    assert settings.mask_url("unix:///run/redis.sock") == "unix:///run/redis.sock"


def test_the_key_of_triton_is_masked_and_an_unset_one_is_seen_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown()["triton.admin_key"].value == ""
    monkeypatch.setenv("TAGGER_TRITON__ADMIN_KEY", SECRET)
    assert load().triton.admin_key.get_secret_value() == SECRET
    assert shown()["triton.admin_key"].value == "***"
    assert SECRET not in repr(load())


@pytest.mark.parametrize("key", ["hunter2\n", " hunter2", "hünter2", "hunter2\x00"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str, bare: Path) -> None:
    (bare / "tagger.toml").write_text(f"[triton]\nadmin_key = {json.dumps(key)}\n")
    told = refusal()
    assert "triton.admin_key (from tagger.toml): a header cannot hold it" in told
    assert key.strip() not in told


@pytest.mark.parametrize("name", ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"])
def test_secret_kafka_properties_are_masked_and_the_others_shown(name: str, bare: Path) -> None:
    (bare / "tagger.toml").write_text(f'[kafka.extra]\n"{name}" = "{SECRET}"\n"sasl.username" = "tagger"\n')
    assert shown()["kafka.extra"].value == f"{name}=***, sasl.username=tagger"


@pytest.mark.parametrize(
    "text",
    ["s3://abc,gs://b_c", '{"s3://abc": {}, "gs://b_c": {}}', " s3://abc , gs://b_c "],
    ids=["names", "JSON", "spaces"],
)
def test_buckets_are_written_as_names_or_with_options(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__STORES", text)
    assert load().fetch.stores == {"s3://abc": {}, "gs://b_c": {}}


def test_the_options_of_a_bucket_are_texts_and_its_secrets_are_masked(bare: Path) -> None:
    (bare / "tagger.toml").write_text(
        '[fetch.stores."s3://my-keys"]\nendpoint = "http://minio:9000"\nskip_signature = true\n'
        f'secret_access_key = "{SECRET}"\n[fetch.stores."az://photos"]\nsas_key = "{SECRET}"\n'
    )
    assert load().fetch.stores["s3://my-keys"]["skip_signature"] == "true"
    value = shown()["fetch.stores"].value
    assert SECRET not in value
    assert "endpoint=http://minio:9000" in value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("photos", "not a bucket"),
        ("s3://A_B", "not a bucket"),
        ("s3://a/key", "not a bucket"),
        ("{", "s3://a"),
        ('{"s3://abc": {"endpoint": "minio:9000"}}', "endpoint"),
        ('{"s3://abc": {"endpoint": "http://169.254.169.254"}}', "link-local"),
        ('{"s3://abc": {"endpoint": "http://[::ffff:169.254.169.254]:80/"}}', "link-local"),
        ('{"gs://abc": {"base_url": "http://2130706433/"}}', "endpoint"),
        ('{"s3://abc": {"endpoint": "http://me:hunter2@minio:9000"}}', "endpoint"),
        ('{"s3://abc": {"endpoint": "http://minio:99999"}}', "endpoint"),
        ('{"s3://abc": {"endpoint": "http://a..b"}}', "endpoint"),
    ],
)
def test_a_bucket_that_is_none_is_named(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__STORES", text)
    assert told in refusal()


@pytest.mark.parametrize(
    "endpoint",
    ["http://10.0.0.5:9000", "http://localhost:9000", "https://[fd12::1]", "http://h/p", "http://B\u00fccher.Intern."],
)
def test_an_endpoint_may_be_private_because_the_operator_names_it(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_FETCH__STORES", f'{{"s3://abc": {{"endpoint": "{endpoint}"}}}}')
    assert load().fetch.stores["s3://abc"]["endpoint"] == endpoint


def test_the_password_of_the_proxy_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__PROXY", f"http://me:{SECRET}@proxy:3128")
    assert shown()["fetch.proxy"].value == "http://me:***@proxy:3128"


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy:3128",
        "socks5://proxy:1080",
        f"http://me:{SECRET}@proxy:3128/path",
        f"http://me:{SECRET}?@proxy:3128",
        f"http://me:{SECRET}#@proxy:3128",
        f"http://me:{SECRET}@a..b:3128",
        f"http://me:{SECRET}@127.1:3128",
        f"http://me:{SECRET}@proxy:99999",
        f"http://me:{SECRET}@",
    ],
)
def test_a_proxy_that_is_none_is_named_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__PROXY", proxy)
    text = refusal()
    assert "the proxy is http://host:port" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "proxy",
    ["http://PROXY", "https://[fd12::1]:3128/", "http://me:a%3Fb@b\u00fccher.intern:3128", "http://me:p@q@10.0.0.1"],
)
def test_a_proxy_is_any_host_with_what_it_asks_for(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__PROXY", proxy)
    assert load().fetch.proxy == proxy
    Fetcher(FetchLimits(proxy=proxy))


def test_an_unknown_key_is_told_as_an_unknown_setting(bare: Path) -> None:
    (bare / "tagger.toml").write_text("[fetch]\nmax_byte = 5\n")
    assert "fetch.max_byte (from tagger.toml): unknown setting" in refusal()


def test_an_allowed_address_that_is_none_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_FETCH__ALLOW_ADDRESSES", "localhost")
    assert "'localhost'" in refusal()


def test_every_setting_is_described_and_listed_once_in_order() -> None:
    rows = settings.rows(Settings())
    assert all(row.description for row in rows)
    sections = {name: type(section) for name, section in Settings()}
    assert all(issubclass(section, BaseModel) for section in sections.values())
    assert [row.name for row in rows] == [
        f"{name}.{field}" for name, section in sections.items() for field in section.model_fields
    ]


def test_every_setting_can_be_set_by_the_variable_that_is_told() -> None:
    assert settings.variable_of("kafka.bootstrap_servers") == "TAGGER_KAFKA__BOOTSTRAP_SERVERS"


@pytest.mark.parametrize("row", [row for row in settings.rows(Settings(), {}) if row.value], ids=lambda row: row.name)
def test_a_value_that_is_shown_can_be_set_in_the_environment(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.variable_of(row.name), row.value)
    assert load() == Settings()
    assert shown()[row.name].origin == f"environment {settings.variable_of(row.name)}"


@pytest.mark.parametrize("delays_s", [(0.0,), (1.0, LONGEST_WAIT.total_seconds() + 1), (1e300,)])
def test_a_delay_that_no_record_can_wait_is_refused(delays_s: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="delays_s"):
        RetrySettings(delays_s=delays_s)
    RetrySettings(delays_s=(LONGEST_WAIT.total_seconds(),))


def test_a_variable_may_name_the_file_that_holds_a_value(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "url").write_text(f"redis://:{SECRET}@redis:1\n")
    (bare / "password").write_text(SECRET)
    (bare / "stores").write_text(f'{{"s3://abc": {{"secret_access_key": "{SECRET}"}}}}\r\n')
    monkeypatch.setenv("TAGGER_REDIS__URL_FILE", "url")
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA__SASL__PASSWORD_FILE", str(bare / "password"))
    monkeypatch.setenv("tagger_fetch__stores_file", "stores")
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA", '{"sasl.username": "me"}')
    loaded = load()
    assert loaded.redis.url == f"redis://:{SECRET}@redis:1"
    assert loaded.kafka.extra == {"sasl.username": "me", "sasl.password": SECRET}
    assert loaded.fetch.stores == {"s3://abc": {"secret_access_key": SECRET}}
    url = shown()["redis.url"]
    assert (url.value, url.origin) == ("redis://:***@redis:1", "environment TAGGER_REDIS__URL_FILE")
    assert SECRET not in str(shown())


@pytest.mark.parametrize("variable", ["TAGGER_FETCH__STORES_FILE", "TAGGER_KAFKA__EXTRA_FILE"])
def test_what_a_file_holds_is_named_by_its_variable_and_not_shown(
    variable: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "value").write_text(f'{{"sasl.password": "{SECRET}"')
    monkeypatch.setenv(variable, str(bare / "value"))
    assert f"{variable}" in refusal()
    assert SECRET not in refusal()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "TAGGER_TRITON__ADMIN_KEY_FILE: cannot read key: No such file or directory"),
        (b"\n", "TAGGER_TRITON__ADMIN_KEY_FILE: the file key is empty"),
        (b"hunter2\xff", "TAGGER_TRITON__ADMIN_KEY_FILE: the file key is not UTF-8"),
        (b"h\xc3\xbcnter2", "triton.admin_key (from TAGGER_TRITON__ADMIN_KEY_FILE): a header cannot hold it"),
    ],
)
def test_a_file_that_holds_no_value_is_named(
    content: bytes | None, told: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (bare / "key").write_bytes(content)
    monkeypatch.setenv("TAGGER_TRITON__ADMIN_KEY_FILE", "key")
    assert told in refusal()


def test_a_value_and_a_file_for_it_are_too_many(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "url").write_text("redis://a")
    monkeypatch.setenv("TAGGER_REDIS__URL_FILE", "url")
    monkeypatch.setenv("tagger_redis__url", "redis://b")
    assert refusal() == "tagger_redis__url and TAGGER_REDIS__URL_FILE are both set: leave one of them out"


def test_a_file_for_no_setting_is_an_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_REDIS__URI_FILE", "url")
    assert "unknown setting TAGGER_REDIS__URI_FILE" in refusal()


def test_an_error_of_pydantic_itself_repeats_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        settings.made_of({"TAGGER_REDIS__URL": f"http://:{SECRET}@h"})
    assert SECRET not in str(caught.value)


def test_the_files_of_a_channel_over_tls_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_TRITON__TLS_CA", "/ca.pem")
    assert "tls_ca is for TLS: set triton.tls=true" in refusal()
    monkeypatch.setenv("TAGGER_TRITON__TLS", "true")
    assert load().triton.tls_ca == Path("/ca.pem")
    monkeypatch.setenv("TAGGER_TRITON__TLS_KEY", "/key.pem")
    assert "tls_certificate and tls_key go together" in refusal()
