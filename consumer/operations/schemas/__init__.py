"""Published schemas, generated from the code: of events, releases, runs and their reports; and the image formats.

Training reads the image formats from a copy in its own package.
"""

from pathlib import Path
from typing import Final

import orjson

from consumer.imaging import formats
from consumer.operations.schemas import asyncapi
from consumer.operations.schemas.kinds import KINDS, file_of
from consumer.operations.schemas.kinds import schema_of as schema_of

IMAGE_FORMATS: Final = "image-formats.json"


def write_schemas(folder: Path) -> list[Path]:
    """Writes a file for each kind of record, the topics and the image formats; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {folder / file_of(kind): schema_of(kind) for kind in KINDS}
    contents[folder / IMAGE_FORMATS] = formats.published()
    contents[folder / asyncapi.FILE] = asyncapi.document()
    for path, content in contents.items():
        path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return list(contents)
