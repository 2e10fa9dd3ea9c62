import os
import select
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import TextIO

import pytest

from consumer import telemetry
from consumer.lines import UnblockingLines


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream


def fill(stream: TextIO) -> None:
    """Writes until a pipe takes nothing."""
    os.set_blocking(stream.fileno(), False)
    try:
        while True:
            os.write(stream.fileno(), b"x" * select.PIPE_BUF)
    except BlockingIOError:
        os.set_blocking(stream.fileno(), True)


def drained(reader: int) -> bytes:
    found = b""
    while select.select([reader], [], [], 0)[0]:
        found += os.read(reader, 1 << 20)
    return found


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, TextIO], tmp_path: Path) -> None:
    reader, stream = pipe
    texts = ["a\n", "\u7834\U0001f4a9\udc80\n", "b" * (3 * select.PIPE_BUF) + "\n"]
    expected = "".join(texts).encode(errors="backslashreplace")
    lines = UnblockingLines(stream)
    for text in texts:
        lines.write(text)
        lines.flush()
    assert drained(reader) == expected
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        for text in texts:
            UnblockingLines(file).write(text)
    assert (tmp_path / "log").read_bytes() == expected


def test_a_stream_without_a_descriptor_takes_its_lines() -> None:
    memory = StringIO()
    UnblockingLines(memory).write("a\n")
    assert memory.getvalue() == "a\n"


@pytest.mark.parametrize("length", [10, 100_000])
def test_an_output_that_hangs_is_waited_for_once_and_used_again_once_it_takes_lines(
    pipe: tuple[int, TextIO], length: int
) -> None:
    reader, stream = pipe
    lines = UnblockingLines(stream, patience_s=0.1)
    fill(stream)
    for most_s in (0.5, 0.05, 0.05):
        began = monotonic()
        with pytest.raises(BlockingIOError):
            lines.write("x" * length)
        assert monotonic() - began < most_s
    drained(reader)
    lines.write("back\n")
    assert drained(reader) == b"back\n"


def test_a_log_whose_reader_hangs_drops_lines_counts_them_and_holds_nobody_up(pipe: tuple[int, TextIO]) -> None:
    _, stream = pipe
    log = telemetry.configure_logging("info", "json", stream)
    fill(stream)
    before, began = telemetry.LINES_LOST._value.get(), monotonic()
    for _ in range(200):
        log.info("record.skipped", detail="x" * 1000)
    assert telemetry.LINES_LOST._value.get() - before == 200
    assert monotonic() - began < 5


def test_lines_of_several_threads_are_all_there_and_whole(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        lines = UnblockingLines(file)

        def write(letter: str) -> None:
            for _ in range(300):
                lines.write(letter * 5_000 + "\n")

        threads = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    written = (tmp_path / "log").read_text().splitlines()
    assert len(written) == 900
    assert set(written) == {letter * 5_000 for letter in "abc"}
