"""What a photo costs in Redis, and where its bytes go: `.venv/bin/python -m benchmarks.redis_memory`.

Each kind of id has a Redis of its own, of each `redis-server` that is named: what one gives back late counts for no
other.
The bytes are what `used_memory` grew by: the requests of all keys, each rounded up to a size that the allocator has.
`MEMORY USAGE` says how much of it is in which keys. The rest is the table of all keys, and what its entries are rounded
up by.
Redis holds an index compactly up to 128 entries: with 34 brands in one photo of five, up to 1.4 million photos. With
`--brands 1` the indexes of so few photos are as large as those of three million.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.reader import BRANDS, IDS, PIPELINE, SCRIPT, Writer, photos
from consumer.embedded.servers import Servers

#: What keys hold, by their first letter.
KINDS: Final = {"p": "tags", "q": "index of good photos", "b": "indexes of brands", "n": "names of brands"}


def measured(url: str, name: str, count: int, brands: int) -> dict[str, float]:
    """The bytes of a photo, all in and by kind of key; the server must be empty and do nothing else."""
    with _client(url) as client:
        before = _used_bytes(client)
    # A connection of its own, since its buffers go with it.
    with _client(url) as client:
        writer = Writer(client, SCRIPT.read_text(encoding="utf-8"), declares_all=True)
        left = photos(count, IDS[name], BRANDS[:brands])
        while batch := list(islice(left, PIPELINE)):
            writer.write(batch, PIPELINE)
    with _client(url) as client:
        whole = _used_bytes(client) - before
        parts = _by_kind(client)
    parts["rest"] = whole - sum(parts.values())
    return {"all in": whole / count, **{kind: size / count for kind, size in parts.items()}}


def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=60)


def _used_bytes(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _by_kind(client: Redis) -> dict[str, int]:
    found = defaultdict[str, int](int)
    left = client.scan_iter(count=10_000)
    while keys := list(islice(left, PIPELINE)):
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.memory_usage(key, samples=0)
        for key, size in zip(keys, pipeline.execute(), strict=True):
            found[KINDS[chr(key[0])]] += size
    return {kind: found[kind] for kind in KINDS.values()}


def _server(url: str) -> tuple[str, str]:
    """Its name with its version, and its allocator."""
    with _client(url) as client:
        told, memory = client.info("server"), client.info("memory")
    version = told.get("valkey_version", told["redis_version"])
    return f"{told.get('server_name', 'redis')} {version}", memory["mem_allocator"]


def row(titles: Sequence[str], found: dict[str, float]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join([*titles, *(f'{size:.0f}' for size in found.values())])} |"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--redis", type=Path, nargs="+", metavar="BINARY", help="redis-server of these versions")
    parser.add_argument("--brands", type=int, default=len(BRANDS), help="of how many brands photos show one")
    options = parser.parse_args()
    with Servers() as servers:
        for number, binary in enumerate(options.redis or [None]):
            for name in IDS:
                url = servers.start_redis(
                    f"redis-{number}-{name[:2]}", binary=binary, options=["--appendonly", "no"]
                ).url
                found = measured(url, name, options.photos, options.brands)
                if (number, name) == (0, next(iter(IDS))):
                    print(f"| server | allocator | ids of | {' | '.join(found)} |\n|{'---|' * (3 + len(found))}")
                print(row([*_server(url), name], found), flush=True)


if __name__ == "__main__":
    main()
