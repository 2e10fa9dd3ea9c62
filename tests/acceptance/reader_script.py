"""What another team writes with the reader. Checked by mypy in strict mode and run where only `redis` is installed."""
# ruff: noqa: T201 - the test reads what it prints

import asyncio
import sys
from datetime import datetime
from typing import assert_type

from consumer.reader import AsyncTagReader, Brand, Found, Page, Quality, RedisError, Source, TagReader, Tags


def described(tags: Tags) -> str:
    """One line about a photo."""
    assert_type(tags.photo_id, str)
    assert_type(tags.quality, Quality)
    assert_type(tags.quality.score, float)
    assert_type(tags.brands, tuple[Brand, ...])
    assert_type(tags.models, dict[str, str])
    assert_type(tags.source, Source)
    assert_type(tags.tagged_at, datetime)
    return f"{tags.photo_id} {tags.quality.score} {','.join(brand.brand for brand in tags.brands)}"


async def asynchronously(url: str) -> list[str]:
    """The ids of the best photos."""
    async with AsyncTagReader(url, timeout_s=5.0) as reader:
        assert_type(await reader.get("photo-1"), Tags | None)
        assert_type(await reader.get_many(["photo-1"]), dict[str, Tags])
        best = await reader.find(["crimson"], level=4)
        assert_type(best, Page)
        return [found.photo_id for found in best]


def main(url: str, unreachable: str) -> None:
    """Prints a line for each way to ask."""
    with TagReader(url, timeout_s=5.0, cluster=False) as reader:
        one = reader.get("photo-1")
        assert_type(one, Tags | None)
        print("get", described(one) if one is not None else "-")
        many = reader.get_many(["photo-1", "photo-2"])
        assert_type(many, dict[str, Tags])
        print("get_many", *many)
        best = reader.find("crimson", min_quality=0.5, limit=10)
        assert_type(best, Page)
        assert_type(best.cursor, str | None)
        assert_type(best[0], Found)
        assert_type(best[0].brands, tuple[str, ...])
        print("find", *(f"{found.photo_id} {found.quality}" for found in best))
        assert_type(reader.brands(), dict[str, int])
        try:
            reader.watch("127.0.0.1:1")
        except ImportError as missing:
            print("watch needs", missing.name)
    print("async", *asyncio.run(asynchronously(url)))
    other = TagReader(unreachable)
    try:
        other.get("photo-1")
    except RedisError as error:
        print("refused", type(error).__name__)
    finally:
        other.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
