"""What another team writes with the reader. Checked by mypy in strict mode and run where only `redis` is installed."""
# ruff: noqa: T201 - the test reads what it prints

import sys
from datetime import datetime
from typing import assert_type

from consumer.reader import Brand, Found, Quality, RedisError, Source, TagReader, Tags


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
        assert_type(best, list[Found])
        print("find", *(f"{found.photo_id} {found.quality}" for found in best))
    other = TagReader(unreachable)
    try:
        other.get("photo-1")
    except RedisError as error:
        print("refused", type(error).__name__)
    finally:
        other.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
