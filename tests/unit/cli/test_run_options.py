from pathlib import Path

import pytest

from consumer.cli.run_options import offsets_of, selection_of
from consumer.errors import SettingsError
from consumer.runs.definition import MOST_IDS, Selection


def test_ranges_of_partitions_are_read_as_they_are_written() -> None:
    assert offsets_of(None) is offsets_of([]) is None
    found = offsets_of(["0:5-9", "1:7-", "2", "3:-4"])
    assert found is not None
    assert (found[0], found[1].start, found[2].start, found[3]) == (range(5, 10), 7, 0, range(5))
    assert min(found[1].stop, found[2].stop) > 2**60


@pytest.mark.parametrize(
    "text", ["", "x", "0:a-b", "0:1-b", ":1-2", "-1:1-2", "0:1-2-3", "٣", "0:" + "9" * 5000, "9" * 5000]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="FIRST-LAST"):
        offsets_of([text])


def test_a_partition_has_one_range() -> None:
    with pytest.raises(SettingsError, match="partition 0 is named twice"):
        offsets_of(["0:1-2", "1", "00:5-6"])


def test_ids_come_from_a_file_each_once(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_text("a\n\n b \r\na\n", encoding="utf-8")
    assert selection_of(path, ["crimson"], [1]) == Selection(("a", "b"), ("crimson",), (1,))
    assert selection_of(None, None, None) == Selection()


def test_a_file_of_ids_may_come_from_windows_and_ids_keep_what_is_no_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_bytes("\ufeffa\r\nb\u2028c\r\n\x85d\r\n".encode())
    assert selection_of(path, None, None).ids == ("a", "b\u2028c", "\x85d")


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(SettingsError, match="larger than 64 MiB"):
        selection_of(Path("/dev/zero"), None, None)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe", b"\n".join(b"%d" % n for n in range(MOST_IDS + 1))])
def test_a_file_without_ids_or_with_too_many_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ids"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="--ids"):
        selection_of(path, None, None)
    with pytest.raises(SettingsError, match="--ids"):
        selection_of(tmp_path / "missing", None, None)
