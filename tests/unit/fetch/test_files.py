import contextlib
import os
import threading
from pathlib import Path

import pytest

from consumer.errors import PhotoRejected
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.files import open_below
from consumer.fetch.limits import FetchLimits
from tests.photo_host import BODY, event, fetch, rejected


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
