"""Downloads keep their pace, retry what may pass, go on where they broke off, and end where they must."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slow_host import FileHost, file_host
from training.data.download import Limits, Pace, fetch, save
from training.errors import Unreadable

BODY = bytes(range(256)) * 400
QUICK = Limits(requests=1000, pause_s=0.0, timeout_s=5)


@pytest.fixture
def host() -> Iterator[FileHost]:
    with file_host(photo=BODY) as running:
        yield running


def get(host: FileHost, folder: Path, path: str = "/photo", limits: Limits = QUICK):  # noqa: ANN201 - as save
    return save(host.url(path), folder / "photo.jpg", limits, Pace(limits), sleep=lambda _s: None)


def test_a_file_appears_whole_with_its_hash(host: FileHost, tmp_path: Path) -> None:
    saved = get(host, tmp_path)
    assert (saved.status, saved.size_bytes) == ("done", len(BODY))
    assert saved.sha256 == hashlib.sha256(BODY).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    assert (tmp_path / "photo.jpg").read_bytes() == BODY


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, "cut"])
def test_what_may_pass_is_tried_again(host: FileHost, tmp_path: Path, trouble: int | str) -> None:
    host.trouble("/photo", trouble, trouble)
    assert get(host, tmp_path).status == "done"
    assert host.asked() == {"/photo": 3}
    assert (tmp_path / "photo.jpg").read_bytes() == BODY


def test_a_broken_download_goes_on_where_it_broke_off(host: FileHost, tmp_path: Path) -> None:
    host.trouble("/photo", "cut", 500)
    get(host, tmp_path)
    half = len(BODY) // 2
    assert [wanted for _, _, wanted in host.requests] == ["", f"bytes={half}-", f"bytes={half}-"]


def test_a_later_process_goes_on_too(host: FileHost, tmp_path: Path) -> None:
    host.trouble("/photo", "cut")
    once = Limits(requests=1000, attempts=1)
    assert get(host, tmp_path, limits=once).status == "failed"
    assert not (tmp_path / "photo.jpg").exists()
    assert get(host, tmp_path).status == "done"
    assert host.requests[-1][2] == f"bytes={len(BODY) // 2}-"
    assert (tmp_path / "photo.jpg").read_bytes() == BODY


@pytest.mark.parametrize("other", [BODY[::-1], b"short"])
def test_other_content_is_not_spliced(host: FileHost, tmp_path: Path, other: bytes) -> None:
    host.trouble("/photo", "cut")
    get(host, tmp_path, limits=Limits(requests=1000, attempts=1))
    host.files["/photo"] = other
    assert get(host, tmp_path).status == "done"
    assert (tmp_path / "photo.jpg").read_bytes() == other


def test_a_server_without_ranges_sends_all_again(host: FileHost, tmp_path: Path) -> None:
    host.trouble("/photo", "cut", "forget")
    assert get(host, tmp_path).status == "done"
    assert (tmp_path / "photo.jpg").read_bytes() == BODY


def test_a_range_that_was_not_asked_for_is_not_spliced(host: FileHost, tmp_path: Path) -> None:
    host.trouble("/photo", "cut", "shift")
    assert get(host, tmp_path).status == "done"
    assert [bool(wanted) for _, _, wanted in host.requests] == [False, True, False]
    assert (tmp_path / "photo.jpg").read_bytes() == BODY


def test_what_is_gone_is_not_asked_for_again(host: FileHost, tmp_path: Path) -> None:
    assert get(host, tmp_path, "/no").status == "gone"
    assert host.asked() == {"/no": 1}
    assert list(tmp_path.iterdir()) == []


def test_what_never_works_fails_after_its_attempts(host: FileHost, tmp_path: Path) -> None:
    host.trouble("/photo", *[500] * 9)
    saved = get(host, tmp_path)
    assert (saved.status, saved.reason) == ("failed", "status 500")
    assert host.asked() == {"/photo": 5}


def test_a_silent_server_and_a_dead_one_fail(host: FileHost, tmp_path: Path) -> None:
    host.trouble("/photo", *["hang"] * 9)
    impatient = Limits(requests=1000, attempts=2, timeout_s=0.2)
    assert get(host, tmp_path, limits=impatient).status == "failed"
    host.port = 1
    assert "refused" in get(host, tmp_path).reason


def test_a_large_file_is_refused(host: FileHost, tmp_path: Path) -> None:
    small = Limits(requests=1000, most_bytes=len(BODY) - 1)
    saved = get(host, tmp_path, limits=small)
    assert saved.status == "gone"
    assert "more than" in saved.reason
    with pytest.raises(Unreadable, match="more than"):
        fetch(host.url("/photo"), small)


def test_redirects_are_followed_to_http_alone(host: FileHost, tmp_path: Path) -> None:
    host.moved = {"/old": host.url("/photo"), "/bad": "file:///etc/hostname"}
    assert get(host, tmp_path, "/old").final_url == host.url("/photo")
    with pytest.raises(Unreadable):
        fetch(host.url("/bad"), QUICK)
    with pytest.raises(Unreadable, match="only http"):
        fetch("file:///etc/hostname", QUICK)


def test_no_window_holds_more_requests_than_allowed() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace, started = Pace(Limits(requests=5, per_s=5.0), lambda: now[0], sleep), []
    for _ in range(23):
        pace.wait()
        started.append(now[0])
        now[0] += 0.1
    assert all(later - earlier >= 5.0 - 1e-9 for earlier, later in zip(started, started[5:], strict=False))
    assert started[-1] < 21


def test_threads_share_one_pace(host: FileHost, tmp_path: Path) -> None:
    limits = Limits(requests=3, per_s=0.4)
    pace = Pace(limits)
    workers = [
        threading.Thread(target=save, args=(host.url("/photo"), tmp_path / f"{index}", limits, pace))
        for index in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert len(host.requests) == len(list(tmp_path.iterdir())) == 8
    times = sorted(at for at, _, _ in host.requests)
    assert times[-1] - times[0] >= 0.6  # eight by threes: two full waits, less what a busy machine delays the first
