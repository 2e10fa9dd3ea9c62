"""Lists: rows of CSV, Parquet and Excel files as dictionaries of text, and lines of text in several encodings."""

import codecs
import csv
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Final, TextIO

from training.errors import DataError, ToolMissing

#: Byte-order marks and what they say; that of UTF-32 begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD_BYTES: Final = 1024
#: The line before the header by which Excel knows the separator.
_TOLD: Final = re.compile(r'"?sep=([^\w\s]|\t)"?\s*')
_EXTRA = "needs the extra `tables`: pip install 'photo-tagger[tables]'"


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table with a header; empty cells are empty text.

    Yields:
        Column name to text.

    Raises:
        DataError: The file is missing or not of the format that its suffix names.
        ToolMissing: The packages for Parquet or Excel files are not installed.
    """
    if not path.is_file():
        raise DataError(f"no table at {path}")
    reader = {".parquet": _parquet, ".xlsx": _excel}.get(path.suffix.lower(), _csv)
    try:
        yield from reader(path)
    except (OSError, ValueError, csv.Error, KeyError) as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from None


def columns_missing(path: Path, row: dict[str, str], *names: str | None) -> None:
    """Checks that a table has the needed columns.

    Raises:
        DataError: Names the missing ones and the existing ones.
    """
    missing = [name for name in names if name is not None and name not in row]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(row)}")


def column(path: Path, row: dict[str, str], name: str) -> str:
    """The name of a column as the table has it: equal, or else the only one that is equal but for case.

    Raises:
        DataError: None or several; names those that there are.
    """
    if name in row:
        return name
    alike = [other for other in row if other.casefold() == name.casefold()]
    if len(alike) != 1:
        columns_missing(path, row, name)
    return alike[0]


def _csv(path: Path) -> Iterator[dict[str, str]]:
    with open_text(path) as stream:
        header = stream.readline()
        told = _TOLD.fullmatch(header)
        header = stream.readline() if told else header
        # Excel writes the others in some countries; a quoted name may have any of them in it.
        separator = told[1] if told else max(",;\t", key=re.sub('"[^"]*"', "", header).count)
        table = csv.DictReader(chain((header,), stream), delimiter=separator)
        names = [(name or "").strip() for name in table.fieldnames or ()]
        twice = {name for name in names if name and names.count(name) > 1}
        if twice:
            raise DataError(f"{path} has two columns {min(twice)}: rename one")
        for row in table:
            if any(cell.strip() for cell in row.pop(None, None) or ()):
                line = table.line_num + bool(told)
                raise DataError(
                    f"{path}, line {line}: more cells than the header has columns; put quotes around text and decimals"
                    f" with {separator!r} in them"
                )
            yield {(name or "").strip(): (value or "").strip() for name, value in row.items()}


def _parquet(path: Path) -> Iterator[dict[str, str]]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError:
        raise ToolMissing(f"{path.name} {_EXTRA}") from None
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    yield {name: "" if value is None else str(value) for name, value in row.items()}
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from None


def _excel(path: Path) -> Iterator[dict[str, str]]:
    try:
        import openpyxl  # noqa: PLC0415 - an extra
    except ImportError:
        raise ToolMissing(f"{path.name} {_EXTRA}") from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (openpyxl.utils.exceptions.InvalidFileException, zipfile.BadZipFile, OSError, KeyError) as error:
        raise DataError(f"{path} is not an Excel file: {error}") from None
    lines = book.worksheets[0].iter_rows(values_only=True)
    header = [str(name or "").strip() for name in next(lines, ())]
    for line in lines:
        yield {name: "" if value is None else str(value) for name, value in zip(header, line, strict=False)}
    book.close()


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A list, to be read line by line: UTF-8, or what its byte-order mark says (UTF-8, UTF-16, UTF-32).

    Yields:
        The open file, its line ends as they are.

    Raises:
        DataError: Missing, or in another encoding, which is named as far as it can be known.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
        # Of the Latin letters and digits of a header, every second byte is 0.
        halves = {"UTF-16BE": head[::2], "UTF-16LE": head[1::2]}
        wide = next((name for name, half in halves.items() if half.count(0) * 2 > len(half)), None)
        if encoding == "utf-8" and wide:
            raise DataError(f"{path} looks like {wide} without a byte-order mark: {_how(path, wide)}")
        with path.open(newline="", encoding=encoding) as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path) if error.encoding == "utf-8" else f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def lines_of(path: Path) -> list[str]:
    """The lines of a list, without their ends; raises as `open_text`."""
    with open_text(path) as stream:
        return stream.read().splitlines()


def _not_utf8(path: Path) -> str:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place = f"{path}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8"
                return f"{place}; files of Windows programs are often in cp1252: {_how(path, 'CP1252')}"
    return f"{path} is not UTF-8"


def _how(path: Path, encoding: str) -> str:
    return f"save it as UTF-8 (iconv -f {encoding} -t UTF-8 {path.name})"
