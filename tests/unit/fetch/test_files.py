import asyncio
import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from yarl import URL

from consumer.budget import Budget
from consumer.errors import PhotoHostDown, PhotoRejected, Retryable, TaggerError
from consumer.fetch.attempt import Attempt, NoRoom, NotFound
from consumer.fetch.below import OpenFile, open_below
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.files import Files
from consumer.fetch.limits import FetchLimits
from consumer.fetch.trail import Trail, following
from tests.photo_host import BODY, event, failure, fetch, no_descriptor_left, rejected, until


class TestFiles:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "photos"
        root.mkdir()
        (root / "a b.jpg").write_bytes(BODY)
        (tmp_path / "secret").write_bytes(b"hunter2")
        (tmp_path / "photos-too").mkdir()
        (tmp_path / "photos-too" / "a").write_bytes(b"hunter2")
        return root

    @staticmethod
    def limits(root: Path | None, **changes: object) -> FetchLimits:
        return FetchLimits(schemes=("file",), file_root=root, **changes)

    async def test_a_file_below_the_root_is_read(self, root: Path) -> None:
        assert await fetch(f"file://{root}/a%20b.jpg", self.limits(root)) == BODY
        assert await fetch(f"file://localhost{root}/x/../a%20b.jpg", self.limits(root)) == BODY

    @pytest.mark.parametrize(
        "name",
        [
            *(b"a?b.jpg", b"a#1.jpg", b"a%20b", b"100%.jpg", b"a\\b", b" a ", b"a\nb", b"a\x7f", b"...", b"a;b&c=+"),
            *("caf\u00e9 \U0001f600".encode(), "cafe\u0301".encode(), b"caf\xe9", b"\xff\xfe", b"\xed\xa0\xbd"),
        ],
    )
    async def test_exactly_the_file_is_read_that_a_uri_names(self, root: Path, name: bytes) -> None:
        for decoy in (b"a", b"caf", b"caf\xef\xbf\xbd", b"b"):
            (root / os.fsdecode(decoy)).write_bytes(b"another")
        (root / os.fsdecode(name)).write_bytes(BODY)
        assert await fetch(f"file://{root}/{quote(name)}", self.limits(root)) == BODY
        assert await fetch(f"file://{root}/x//.././{quote(name)}", self.limits(root)) == BODY
        assert await fetch(f"FILE://LocalHost{quote(bytes(root))}%2F{quote(name)}", self.limits(root)) == BODY

    @pytest.mark.parametrize(
        "name", ["a?b.jpg", "a#1.jpg", "a?", "a#?#", "a\\b", "a;b&c=+", "100%.jpg", "caf\u00e9?\udce9"]
    )
    async def test_question_marks_and_hashes_belong_to_the_name_of_a_file(self, root: Path, name: str) -> None:
        (root / "a").write_bytes(b"another")
        (root / name).write_bytes(BODY)
        assert await fetch(f"file://{root}/{name}", self.limits(root)) == BODY

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            *((name, "names a folder") for name in ("a/", "a/.", "a/%2E", "b/..", "a%2F")),
            *((name, "no such file") for name in ("a?", "a#", "a?b#c")),
            ("a%00b", "no name holds a zero byte"),
        ],
    )
    async def test_what_names_no_file_leads_to_no_other_and_is_refused_with_words(
        self, root: Path, name: str, words: str
    ) -> None:
        (root / "a").write_bytes(b"another")
        error = await failure(f"file://{root}/{name}", self.limits(root))
        assert isinstance(error, PhotoRejected)
        assert words in error.detail

    @pytest.mark.parametrize("uri", ["file:a%20b.jpg", "file://a%20b.jpg", "file:"])
    async def test_a_file_is_named_by_its_whole_path(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, uri: str
    ) -> None:
        monkeypatch.chdir(root)
        error = await failure(uri, self.limits(root))
        assert "a file: URI is file:///path, without a host" in error.detail

    async def test_names_that_are_not_utf_8_are_legible_in_messages_and_origins(self, root: Path) -> None:
        way = Trail()
        with following(way):
            error = await failure(f"file://{root}/caf%E9/none.jpg", self.limits(root))
        assert error.detail == rf"no such file: {root}/caf\udce9/none.jpg"
        assert list(way.ways) == [rf"file://{root}/caf\udce9"]

    async def test_a_link_inside_the_root_is_followed(self, root: Path) -> None:
        (root / "link").symlink_to(root / "a b.jpg")
        assert await fetch(f"file://{root}/link", self.limits(root)) == BODY

    @pytest.mark.parametrize(
        "path", ["/../secret", "/%2e%2e/secret", "/out", "/out-folder/secret", "-too/a", "", "/x\0y", "/%00"]
    )
    async def test_nothing_outside_the_root_is_read(self, root: Path, path: str) -> None:
        (root / "out").symlink_to(root.parent / "secret")
        (root / "out-folder").symlink_to(root.parent)
        assert await rejected(f"file://{root}{path}", self.limits(root)) == "url_not_allowed"

    @pytest.mark.parametrize("place", ["/etc/passwd", "/proc/self/environ", "/dev/zero"])
    async def test_system_files_are_not_read(self, root: Path, place: str) -> None:
        assert await rejected(f"file://{place}", self.limits(root)) == "url_not_allowed"

    async def test_without_a_root_or_the_scheme_no_file_is_read(self, root: Path) -> None:
        assert await rejected(f"file://{root}/a%20b.jpg", self.limits(None)) == "url_not_allowed"
        assert await rejected(f"file://{root}/a%20b.jpg", FetchLimits(file_root=root)) == "url_not_allowed"
        assert await rejected(f"file://host{root}/a%20b.jpg", self.limits(root)) == "url_not_allowed"

    async def test_only_regular_files_are_read(self, root: Path) -> None:
        os.mkfifo(root / "pipe")
        (root / "folder").mkdir()
        for name in ("pipe", "folder"):
            assert await rejected(f"file://{root}/{name}", self.limits(root)) == "url_not_allowed"

    async def test_a_missing_file_is_like_a_missing_page(self, root: Path) -> None:
        for name in ("none.jpg", "a%20b.jpg/none", "n" * 300):
            assert await rejected(f"file://{root}/{name}", self.limits(root)) == "http_4xx"

    async def test_the_bytes_of_a_file_are_bounded(self, root: Path) -> None:
        uri = f"file://{root}/a%20b.jpg"
        assert await fetch(uri, self.limits(root, max_bytes=len(BODY))) == BODY
        assert await rejected(uri, self.limits(root, max_bytes=len(BODY) - 1)) == "too_many_bytes"

    async def test_an_empty_file_is_an_empty_body(self, root: Path) -> None:
        (root / "empty").touch()
        assert await rejected(f"file://{root}/empty", self.limits(root)) == "empty_body"

    def test_a_folder_that_became_a_link_since_it_was_looked_at_is_not_followed(self, root: Path) -> None:
        # What a swap between looking and opening leaves to be opened.
        (root / "album").symlink_to(root.parent / "photos-too")
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            open_below(str(root), ("album", "a"))
        (root / "link.jpg").symlink_to(root.parent / "secret")
        with pytest.raises(OSError, match="Too many levels"):
            open_below(str(root), ("link.jpg",))

    async def test_whoever_swaps_folders_for_links_meanwhile_reads_nothing_outside(self, root: Path) -> None:
        album, kept = root / "album", root / "kept"
        kept.mkdir()
        (kept / "a").write_bytes(BODY)
        outside = root.parent / "photos-too"
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                for target in (outside, kept):
                    draft = root / "draft"
                    draft.symlink_to(target)
                    draft.replace(album)

        album.symlink_to(kept)
        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            async with Fetcher(self.limits(root)) as fetcher:
                for _ in range(300):
                    with contextlib.suppress(PhotoRejected):
                        assert (await fetcher.fetch(event(f"file://{root}/album/a"))).body == BODY
        finally:
            stop.set()
            swapper.join()


class FileSystem:
    """Opens real files, but for those that it was told to fail or to hang on."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self.hung: str | None = None
        self.opened = 0
        self.waiting = 0
        self.released = threading.Event()

    def open(self, root: str, parts: Sequence[str]) -> int:
        self.opened += 1
        if self.hung is not None and self.hung in parts:
            self.waiting += 1
            self.released.wait(30)
        if (code := self.failures.get(parts[-1])) is not None:
            raise OSError(code, os.strerror(code))
        return open_below(root, parts)


@pytest.fixture
def system() -> Iterator[FileSystem]:
    system = FileSystem()
    yield system
    system.released.set()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for folder in ("album", "hung"):
        (root / folder).mkdir(parents=True)
        for number in range(20):
            (root / folder / f"{number}.jpg").write_bytes(BODY)
    return root


async def read(files: Files, path: Path, within_s: float = 5.0) -> bytes:
    attempt = Attempt(Budget(2**30), 2**22)
    try:
        async with asyncio.timeout(within_s):
            return await files.read(URL(f"file://{path}"), attempt)
    finally:
        attempt.release()


async def failure_of(root: Path, code: int) -> TaggerError | NotFound:
    def broken(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    opened: OpenFile = broken
    with pytest.raises((TaggerError, NotFound)) as caught:
        await read(Files(root, 1.0, open_file=opened), root / "album/1.jpg")
    return caught.value


@contextlib.contextmanager
def leased(path: Path) -> Iterator[None]:
    """Another process has a lease on the file, as a file server has on those that its clients write."""
    lease = "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.fcntl(f,fcntl.F_SETLEASE,fcntl.F_WRLCK)"
    keep = "; import signal; signal.signal(signal.SIGIO, signal.SIG_IGN); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", lease + keep, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        yield
        writer.communicate("\n")


class TestFailures:
    """Whose failure it is, by its number: the photo's, its file system's, or this machine's."""

    @pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTDIR], ids=os.strerror)
    async def test_what_is_not_there_may_appear(self, root: Path, code: int) -> None:
        assert isinstance(await failure_of(root, code), NotFound)

    @pytest.mark.parametrize(
        "code",
        [errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL],
        ids=os.strerror,
    )
    async def test_what_may_not_be_read_is_the_photo_s(self, root: Path, code: int) -> None:
        error = await failure_of(root, code)
        assert isinstance(error, PhotoRejected)
        assert error.reason == "http_4xx"

    @pytest.mark.parametrize(
        "code",
        [
            *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN),
            *(errno.EREMOTEIO, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ESHUTDOWN, errno.EUCLEAN, errno.ENOLINK),
            *(errno.ENOKEY, errno.EPROTO, errno.ECOMM, errno.EBADMSG, errno.ENOSYS, errno.EINTR, 523),
        ],
        ids=os.strerror,
    )
    async def test_whatever_else_fails_is_the_file_system_s(self, root: Path, code: int) -> None:
        error = await failure_of(root, code)
        assert isinstance(error, Retryable)
        assert (error.reason, error.origin) == ("http_5xx", f"file://{root}/album")

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS], ids=os.strerror)
    async def test_what_this_machine_has_run_out_of_is_waited_for(self, root: Path, code: int) -> None:
        assert isinstance(await failure_of(root, code), PhotoHostDown)

    async def test_without_a_descriptor_left_the_photo_waits_and_then_is_read(self, root: Path) -> None:
        async with Fetcher(FetchLimits(schemes=("file",), file_root=root)) as fetcher:
            with no_descriptor_left(), pytest.raises(PhotoHostDown, match="Too many open files"):
                await fetcher.fetch(event(f"file://{root}/album/1.jpg"))
            assert (await fetcher.fetch(event(f"file://{root}/album/1.jpg"))).body == BODY

    async def test_a_handle_that_fails_after_it_was_opened_is_the_file_system_s(self, root: Path) -> None:
        before = descriptors()

        def stale(root: str, parts: Sequence[str]) -> int:
            handle = open_below(root, parts)
            os.close(handle)
            return handle

        with pytest.raises(Retryable) as caught:
            await read(Files(root, 1.0, open_file=stale), root / "album/1.jpg")
        assert (caught.value.reason, caught.value.origin) == ("http_5xx", f"file://{root}/album")
        assert descriptors() == before

    async def test_a_file_that_its_writer_leases_is_in_use(self, root: Path) -> None:
        path = root / "album/1.jpg"
        with leased(path):
            error = await failure(f"file://{path}", FetchLimits(schemes=("file",), file_root=root))
        assert isinstance(error, Retryable)
        assert (error.reason, error.origin) == ("http_5xx", None)
        assert "in use" in error.detail


def move(old: Path, new: Path) -> None:
    if new.is_symlink() or new.is_file():
        new.unlink()
    elif new.is_dir():
        new.rmdir()
    old.rename(new)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


#: What may be in the place of a root folder that is gone.
IN_ITS_PLACE = {
    "nothing": lambda _: None,
    "a file": lambda root: root.write_bytes(BODY),
    "a link to itself": lambda root: root.symlink_to(root),
    "a link to nothing": lambda root: root.symlink_to(root.parent / "none"),
    "an empty folder, as a lost mount leaves it": lambda root: root.mkdir(),
}


class TestRoot:
    """A root folder that is gone is an outage of all its photos."""

    @staticmethod
    async def lost(fetcher: Fetcher, root: Path) -> None:
        with pytest.raises(Retryable) as caught:
            await fetcher.fetch(event(f"file://{root}/album/1.jpg"))
        assert (caught.value.reason, caught.value.origin) == ("connect_failed", "file://")
        assert "root folder" in caught.value.detail

    @pytest.mark.parametrize("instead", IN_ITS_PLACE)
    async def test_a_root_that_is_gone_fails_for_all_and_comes_back(
        self, root: Path, tmp_path: Path, instead: str
    ) -> None:
        async with Fetcher(FetchLimits(schemes=("file",), file_root=root)) as fetcher:
            await fetcher.fetch(event(f"file://{root}/album/1.jpg"))
            move(root, tmp_path / "elsewhere")
            IN_ITS_PLACE[instead](root)
            for _ in range(2):
                await self.lost(fetcher, root)
            move(tmp_path / "elsewhere", root)
            assert (await fetcher.fetch(event(f"file://{root}/album/1.jpg"))).body == BODY

    async def test_a_folder_below_the_root_is_no_root(self, root: Path, tmp_path: Path) -> None:
        async with Fetcher(FetchLimits(schemes=("file",), file_root=root)) as fetcher:
            await fetcher.fetch(event(f"file://{root}/album/1.jpg"))
            move(root / "album", tmp_path / "elsewhere")
            with pytest.raises(PhotoRejected, match="no such file"):
                await fetcher.fetch(event(f"file://{root}/album/1.jpg"))


class TestHangs:
    """A mount that hangs costs its own photos alone."""

    async def test_reads_that_hang_delay_neither_other_folders_nor_other_work_in_threads(
        self, root: Path, system: FileSystem
    ) -> None:
        system.hung = "hung"
        files = Files(root, 60.0, open_file=system.open)
        reads = [asyncio.create_task(read(files, root / f"hung/{number}.jpg", 30)) for number in range(20)]
        await until(lambda: system.waiting == 8)
        began_s = time.monotonic()
        assert await asyncio.gather(*(read(files, root / f"album/{number}.jpg") for number in range(20))) == [BODY] * 20
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
        assert time.monotonic() - began_s < 2.0
        assert system.waiting == 8, "more than its share of threads"
        system.released.set()
        assert await asyncio.gather(*reads) == [BODY] * 20

    async def test_a_read_that_hangs_ends_in_time_as_the_file_system_s_and_then_fails_at_once(
        self, root: Path, system: FileSystem
    ) -> None:
        system.hung = "hung"
        files = Files(root, 0.05, open_file=system.open)
        reads = [read(files, root / f"hung/{number}.jpg", 0.1) for number in range(8)]
        assert {type(end) for end in await asyncio.gather(*reads, return_exceptions=True)} == {TimeoutError}
        began_s = time.monotonic()
        with pytest.raises(Retryable) as caught:
            await read(files, root / "hung/9.jpg")
        assert (caught.value.reason, caught.value.origin) == ("fetch_timeout", f"file://{root}/hung")
        assert time.monotonic() - began_s < 0.5
        system.released.set()
        while True:
            with contextlib.suppress(Retryable):
                assert await read(files, root / "hung/9.jpg") == BODY
                break
            await asyncio.sleep(0.001)

    async def test_a_read_that_is_given_up_leaves_no_descriptor_behind(self, root: Path, system: FileSystem) -> None:
        system.hung = "hung"
        files = Files(root, 60.0, open_file=system.open)
        before = descriptors()
        for number in range(8):
            with pytest.raises(TimeoutError):
                await read(files, root / f"hung/{number}.jpg", 0.01)
        system.released.set()
        await until(lambda: descriptors() == before and not files._lanes._lanes)

    async def test_a_file_that_changes_while_it_waits_for_room_is_read_later(self, root: Path) -> None:
        path, budget = root / "album/1.jpg", Budget(len(BODY) + 10)
        held = await budget.acquire(budget.total)
        attempt = Attempt(budget, 2**20)
        reading = asyncio.create_task(Files(root, 5.0).read(URL(f"file://{path}"), attempt))
        await until(lambda: attempt._queue is not None)
        path.write_bytes(BODY + b"more")
        held.release()
        with pytest.raises(Retryable) as caught:
            await reading
        assert (caught.value.reason, caught.value.origin) == ("short_body", None)
        attempt.release()


class TestCalls:
    """How often a file is opened, and what room there is for it before."""

    @pytest.mark.parametrize(("size", "opened"), [(0, 1), (2 * 2**20, 1), (2 * 2**20 + 1, 2)])
    async def test_a_small_file_is_opened_once_and_a_larger_one_twice(
        self, root: Path, system: FileSystem, size: int, opened: int
    ) -> None:
        (root / "album/1.jpg").write_bytes(b"x" * size)
        assert len(await read(Files(root, 5.0, open_file=system.open), root / "album/1.jpg")) == size
        assert system.opened == opened

    @pytest.mark.parametrize("linked", ["file", "folder", "root"])
    async def test_a_way_with_links_leads_to_the_same_file(self, root: Path, linked: str) -> None:
        (root / "link.jpg").symlink_to(root / "album/1.jpg")
        (root / "folder").symlink_to(root / "album")
        (root.parent / "other").symlink_to(root)
        way = {"file": root / "link.jpg", "folder": root / "folder/1.jpg", "root": root.parent / "other/album/1.jpg"}
        assert await read(Files(root, 5.0), way[linked]) == BODY
        assert await read(Files(root.parent / "other", 5.0), way[linked]) == BODY

    async def test_the_bytes_of_a_small_file_are_reserved_before_it_is_read_and_only_those_it_has_are_kept(
        self, root: Path, system: FileSystem
    ) -> None:
        budget = Budget(64 * 2**20)
        attempt = Attempt(budget, 2**20)
        system.hung = "hung"
        files = Files(root, 60.0, open_file=system.open)
        reading = asyncio.create_task(files.read(URL(f"file://{root}/hung/1.jpg"), attempt))
        await until(lambda: system.waiting == 1)
        assert budget.used >= len(BODY)
        system.released.set()
        attempt.keep(len(await reading))
        assert budget.used == len(BODY)
        attempt.release()
        assert budget.used == 0

    async def test_a_budget_with_room_for_little_is_waited_for_as_for_a_large_file(self, root: Path) -> None:
        budget = Budget(31)
        held, attempt = await budget.acquire(31), Attempt(budget, 2**20)
        reading = asyncio.create_task(Files(root, 5.0).read(URL(f"file://{root}/album/1.jpg"), attempt))
        await until(lambda: attempt._queue is not None or reading.done())
        held.release()
        assert await reading == BODY
        attempt.release()

    async def test_a_mount_that_hangs_holds_a_quarter_of_the_bytes_at_most(
        self, root: Path, system: FileSystem
    ) -> None:
        system.hung = "hung"
        files = Files(root, 60.0, open_file=system.open)
        for total in (2**20, 8 * 2**20, 64 * 2**20):
            budget, system.waiting = Budget(total), 0
            system.released.clear()
            attempts = [Attempt(budget, 2**20) for _ in range(20)]
            reads = [
                asyncio.create_task(files.read(URL(f"file://{root}/hung/{number}.jpg"), attempt))
                for number, attempt in enumerate(attempts)
            ]
            await until(lambda: system.waiting == 8)
            assert budget.used <= total // 4
            system.released.set()
            for attempt, reading in zip(attempts, reads, strict=True):
                with contextlib.suppress(Retryable, NoRoom):
                    assert await reading == BODY
                attempt.release()
            await until(lambda: budget.used == 0)  # noqa: B023 - called at once

    async def test_a_larger_file_waits_for_its_whole_room(self, root: Path) -> None:
        size = 300 * 1024
        (root / "album/1.jpg").write_bytes(b"x" * size)
        budget = Budget(16 * 2**20)
        held = await budget.acquire(budget.total - size + 1)
        attempt = Attempt(budget, 2**20)
        reading = asyncio.create_task(Files(root, 5.0).read(URL(f"file://{root}/album/1.jpg"), attempt))
        await until(lambda: attempt._queue is not None)
        held.release()
        assert len(await reading) == size
        assert budget.used == size
        attempt.release()

    @pytest.mark.parametrize("size", [1024, 300 * 1024])
    async def test_room_that_a_file_waited_for_is_not_given_to_others_when_it_is_read_again(
        self, root: Path, size: int
    ) -> None:
        (root / "album/1.jpg").write_bytes(b"x" * size)
        budget = Budget(16 * 2**20)
        held = await budget.acquire(budget.total)
        limits = FetchLimits(schemes=("file",), file_root=root)
        async with Fetcher(limits, budget, open_wait_s=0.01) as fetcher, asyncio.timeout(30):
            fetching = asyncio.create_task(fetcher.fetch(event(f"file://{root}/album/1.jpg")))
            await until(lambda: len(budget._queue) == 1)
            await asyncio.sleep(0.05)
            next_one = asyncio.create_task(budget.acquire(budget.total))
            await until(lambda: len(budget._queue) == 2)
            held.release()
            photo = await fetching
            assert len(photo.body) == budget.used == size
            photo.drop()
            (await next_one).release()
