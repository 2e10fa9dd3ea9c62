"""The readers for ad-targeting services: tags of photos, the best photos, brands, and changes as they happen.

The only dependency is `redis`, for `watch` also `confluent-kafka`; none of the service's settings is read. Services in
other languages read the same keys and the same topic, see `docs/how-to/read-tags.md`.
"""

from redis import RedisError

from consumer.reader.changes import Change, Deleted, Restarted, WatchError
from consumer.reader.clients import AsyncTagReader, TagReader, ignore
from consumer.reader.found import Found, Page
from consumer.reader.watching import AsyncWatch, Watch
from consumer.tags import Brand, Quality, Source, Tags

__all__ = [
    "AsyncTagReader",
    "AsyncWatch",
    "Brand",
    "Change",
    "Deleted",
    "Found",
    "Page",
    "Quality",
    "RedisError",
    "Restarted",
    "Source",
    "TagReader",
    "Tags",
    "Watch",
    "WatchError",
    "ignore",
]
