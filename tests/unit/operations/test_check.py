from pathlib import Path
from typing import Any

import pytest

from consumer.contract import Geometry
from consumer.operations.check import Report, check
from consumer.settings import Settings
from tests.fake_triton import FakeTriton, serving
from tests.harness import RED
from tests.photo_host import Host, response

#: The models' sizes are given, so that no Triton is asked.
SIZES = Geometry(64, 66)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "red.jpg"
    path.write_bytes(RED)
    return path


async def report_on(target: str | Path, fetch: dict[str, Any] | None = None, **sections: Any) -> Report:
    return await check(Settings(fetch=fetch or {}, **sections), str(target), SIZES)


async def test_a_file_that_breaks_a_limit_names_the_setting(photo: Path) -> None:
    report = await report_on(photo, prepare={"max_pixels": 100})
    assert (report.outcome, report.setting) == ("too_many_pixels", "TAGGER_PREPARE__MAX_PIXELS=100")
    report = await report_on(photo, {"max_bytes": 100})
    assert (report.outcome, report.setting) == ("too_many_bytes", "TAGGER_FETCH__MAX_BYTES=100")


async def test_each_rule_that_refuses_a_uri_is_named_until_it_is_accepted(host: Host) -> None:
    uri = host.serve("/red.jpg", response("200 OK", RED))
    report = await report_on(uri)
    assert (report.outcome, report.setting) == ("url_not_allowed", "TAGGER_FETCH__SCHEMES=https,http")
    schemes = {"schemes": "https,http"}
    report = await report_on(uri, schemes)
    rule = f"127.0.0.1:{host.port}"
    assert (report.outcome, report.setting) == ("address_not_allowed", f"TAGGER_FETCH__ALLOW_ADDRESSES={rule}")
    (found,) = report.place.addresses
    assert (found.address, found.refused) == ("127.0.0.1", "loopback")
    report = await report_on(uri, {**schemes, "allow_addresses": rule})
    assert (report.outcome, report.setting, report.bytes) == ("accepted", None, len(RED))
    assert report.sizes.said_by == "the command line"


async def test_it_takes_the_sizes_of_each_served_model(photo: Path) -> None:
    async with serving(FakeTriton(brand_size=12)) as fake:
        report = await check(Settings.model_validate({"triton": {"url": fake.url}}), str(photo))
    assert (report.outcome, report.sizes.said_by) == ("accepted", f"Triton at {fake.url}")
    assert report.sizes.models == {"photo_quality": Geometry(8, 8), "brand_logo": Geometry(12, 12)}


async def test_a_redirect_to_where_it_may_not_go_is_told(host: Host) -> None:
    uri = host.serve("/a", response("302 Found", Location="http://10.0.0.1/b"))
    report = await report_on(uri, {"schemes": "http", "allow_addresses": f"127.0.0.1:{host.port}"})
    assert report.outcome == "address_not_allowed"
    assert "10.0.0.1" in report.detail


async def test_metadata_services_are_refused_and_no_setting_is_named() -> None:
    report = await report_on("http://169.254.169.254/latest", {"schemes": "http"})
    assert (report.outcome, report.setting) == ("address_not_allowed", None)


async def test_a_file_uri_needs_its_root_and_a_bucket_its_name(photo: Path) -> None:
    report = await report_on(f"file://{photo}")
    assert report.outcome == "url_not_allowed"
    assert str(report.setting).startswith("TAGGER_FETCH__SCHEMES=https,file TAGGER_FETCH__FILE_ROOT=")
    assert (await report_on(f"file://{photo}", {"schemes": "file", "file_root": photo.parent})).outcome == "accepted"
    report = await report_on("s3://uploads/a.jpg", {"stores": {"s3://others": {}}})
    assert (report.outcome, report.setting) == ("url_not_allowed", "TAGGER_FETCH__STORES=s3://others,s3://uploads")


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://h/a",
        "data:image/png;base64,AAAA",
        "http://a b/",
        "http://[::1/",
        "http://a..b/?sig=x",
        "https://[fd12::1%25a]/",
        "s3://uploads//a.jpg",
        "s3://uploads/a?versionId=1",
    ],
)
async def test_what_is_no_place_for_photos_is_refused_without_a_hint(uri: str) -> None:
    report = await report_on(uri, {"schemes": "https,http", "stores": {"s3://uploads": {}}})
    assert (report.outcome, report.setting) == ("url_not_allowed", None)
    assert "sig=x" not in repr(report)


async def test_the_setting_that_would_allow_a_host_names_it_in_its_one_spelling(host: Host) -> None:
    uri = host.serve("/red.jpg", response("200 OK", RED)).replace("127.0.0.1", "LOCALHOST")
    report = await report_on(uri, {"schemes": "http"})
    rule = f"localhost:{host.port}"
    assert (report.outcome, report.setting) == ("address_not_allowed", f"TAGGER_FETCH__ALLOW_ADDRESSES={rule}")
    assert (await report_on(uri, {"schemes": "http", "allow_addresses": rule})).outcome == "accepted"


async def test_a_signature_in_a_uri_is_not_shown(host: Host) -> None:
    uri = host.serve("/none.jpg", response("403 Forbidden")) + "?X-Signature=hunter2"
    report = await report_on(uri, {"schemes": "http", "allow_addresses": "127.0.0.0/8"})
    assert report.outcome == "http_4xx"
    assert "hunter2" not in repr(report)
