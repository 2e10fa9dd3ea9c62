"""The books of a fault experiment: what was produced against what became of it."""

import json
from collections import Counter
from dataclasses import dataclass, field

import redis

from consumer import layout
from tests.harness import World, headers_of


@dataclass
class Ledger:
    """Every event that was produced, and the checks that must hold whatever happened in between."""

    world: World
    #: The number of upload events of each photo.
    produced: Counter[str] = field(default_factory=Counter)

    def upload(self, photo_id: str, name: str, *, revision: int | None = None) -> None:
        """Produces an upload event and books it."""
        self.world.upload(photo_id, name, revision=revision)
        self.produced[photo_id] += 1

    def settled(self) -> bool:
        """Whether every produced event is committed as done."""
        return sum(offset for offset in self.world.committed().values() if offset > 0) == self.produced.total()

    def close(self, *, dead: int = 0) -> int:
        """Checks the books and returns how many results were published more than once.

        Every photo has tags, a dead letter or both by different events; Redis holds the newest version that the result
        topic has, field by field; no version ever goes back in the result topic; everything produced is committed.
        """
        newest: dict[str, str] = {}
        payloads: dict[str, dict[str, object]] = {}
        seen: Counter[tuple[str, str]] = Counter()
        for message in self.world.tags():
            photo_id, tags = message.key().decode(), json.loads(message.value())
            assert tags["version"] >= newest.get(photo_id, ""), f"{photo_id}: a version went back"
            newest[photo_id], payloads[photo_id] = tags["version"], tags
            seen[photo_id, tags["version"]] += 1
        letters: dict[tuple[str, str], str] = {}
        why: Counter[str] = Counter()
        for message in self.world.dead():
            headers = headers_of(message)
            letters[headers["original_partition"], headers["original_offset"]] = message.key().decode()
            why[f"{headers['reason']}: {headers['detail']}"] += 1
        assert len(letters) == dead, f"dead letters: {why}"
        assert newest.keys() | set(letters.values()) == self.produced.keys(), "a photo was lost"
        with redis.Redis.from_url(self.world.settings.redis.url, decode_responses=True) as client:
            for photo_id, version in newest.items():
                fields = client.hgetall(layout.photo_key(photo_id))
                assert fields["ver"] == version, f"{photo_id}: Redis and the result topic differ"
                assert json.loads(fields["brands"]) == [brand["brand"] for brand in payloads[photo_id]["brands"]]
        assert self.settled()
        return seen.total() - len(seen)
