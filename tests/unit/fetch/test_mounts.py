from pathlib import Path

import pytest

from consumer.fetch.mounts import Mounts

TABLE = r"""
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 22 0:32 / /photos rw,relatime shared:1 - nfs4 nas:/photos rw
37 36 0:33 / /photos/nfs one rw - nfs4 wrong:/fields rw
38 36 0:34 / /photos/nas\0401 rw,relatime - nfs4 nas:/one rw
39 36 0:35 / /photos/years/2026 rw,relatime - cifs //nas/2026 rw
short line
"""


@pytest.mark.parametrize(
    ("path", "lane"),
    [
        ("/photos/a.jpg", "/photos"),
        ("/photos/album/a.jpg", "/photos/album"),
        ("/photos/album/deep/er/a.jpg", "/photos/album"),
        ("/photos/nas 1/a.jpg", "/photos/nas 1"),
        ("/photos/nas 1/deep/a.jpg", "/photos/nas 1"),
        ("/photos/years/2026/11/a.jpg", "/photos/years/2026"),
        ("/photos/years/2025/11/a.jpg", "/photos/years"),
        ("/photos/x/../nas 1/a.jpg", "/photos/nas 1"),
        ("//photos/./nas 1//a.jpg", "outside"),
        ("/photos", "/photos"),
        ("/photos/", "/photos"),
        ("/photos-too/a.jpg", "outside"),
        ("/photos/../etc/passwd", "outside"),
        ("relative", "outside"),
        ("", "outside"),
    ],
)
def test_a_path_is_in_the_lane_of_its_mount_else_of_its_first_folder(tmp_path: Path, path: str, lane: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert Mounts(table).lane_of(path, "/photos/") == lane


def test_without_a_table_of_mounts_the_first_folder_is_the_lane(tmp_path: Path) -> None:
    assert Mounts(tmp_path / "none").lane_of("/photos/nas 1/a.jpg", "/photos") == "/photos/nas 1"


def test_the_mounts_of_this_system_are_read() -> None:
    assert Mounts().lane_of("/proc/self/status", "/") == "/proc"
