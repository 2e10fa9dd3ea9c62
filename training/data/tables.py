"""Rows of CSV, Parquet and Excel files as dictionaries of text."""

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path

from training.errors import DataError, ToolMissing

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


def _csv(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            yield {(name or "").strip(): (value or "").strip() for name, value in row.items() if isinstance(name, str)}


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
