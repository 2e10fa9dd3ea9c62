"""Stratified splits into train, val and test without leaks, and the report that shows it.

A leak is a pair in two splits: photos with the same bytes, with nearly the same perceptual hash, of one group or scene.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from training.data.manifest import target_name
from training.data.photos import FOREIGN, SCENE, TEST, TRAIN, VAL, Photo
from training.data.scenes import Features, Pair, buckets, scene_pairs
from training.errors import DataError
from training.recipes.recipe import Splitting

_HASH_BITS: Final = 64
#: Leaking pairs that the report lists; it counts all.
_EXAMPLES: Final = 5
#: Of a leaking pair, the photo whose split comes first here is dropped.
_DROP_ORDER: Final = (TRAIN, VAL, TEST, FOREIGN)


def near_pairs(hashes: Sequence[int], bits: int) -> set[Pair]:
    """Pairs whose hashes differ in at most `bits` bits; 0 equals nothing (all flat pictures have it).

    A hash that differs in `bits` bits is equal in one of `bits + 1` bands, so only equal bands are compared.
    """
    width = _HASH_BITS // (bits + 1)
    pairs: set[Pair] = set()
    for band in range(bits + 1):
        keys = [((value >> (band * width)) & ((1 << width) - 1)) if value else None for value in hashes]
        for indices in buckets(keys):
            values = np.array([hashes[index] for index in indices], np.uint64)
            for place in range(len(indices) - 1):
                distances = np.bitwise_count(values[place + 1 :] ^ values[place])
                for other in np.flatnonzero(distances <= bits):
                    pairs.add((indices[place], indices[place + 1 + int(other)]))
    return pairs


def _chains(keys: Iterable[Hashable | None]) -> set[Pair]:
    """Consecutive pairs of indices with equal keys, which connect them all."""
    return {pair for indices in buckets(keys) for pair in pairwise(indices)}


def _exact_keys(found: Sequence[Photo]) -> list[Hashable | None]:
    return [(item.sha256, item.box) for item in found]


def _group_keys(found: Sequence[Photo]) -> list[Hashable | None]:
    return [(item.source, item.group) if item.group else None for item in found]


def divide(
    found: Sequence[Photo], rules: Splitting, features: Features | None = None
) -> tuple[list[Photo], dict[str, Any]]:
    """Photos with their splits, and the leak report.

    Splits that come with the data are kept if the rules say so; pairs that leak between those are dropped or refused.
    All other photos are split by group and stratified by label.

    Raises:
        DataError: There are leaks, and the rules refuse them.
    """
    alike = {
        "exact": _chains(_exact_keys(found)),
        "near": near_pairs([item.dhash for item in found], rules.near_bits),
        "group": _chains(_group_keys(found)),
        "scene": scene_pairs(found, rules, features),
    }
    splits = _draw(list(found), _connected(len(found), *alike.values()), rules)
    crossing = {
        kind: sorted(pair for pair in pairs if splits[pair[0]] != splits[pair[1]]) for kind, pairs in alike.items()
    }
    count = sum(len(pairs) for pairs in crossing.values())
    if count and rules.on_leak == "fail":
        left, right = next(pair for pairs in crossing.values() for pair in pairs)
        raise DataError(f"{count} pairs leak between splits, such as {found[left].id} and {found[right].id}")
    dropped = _to_drop(alike, splits)
    kept = [replace(i, split=s) for n, (i, s) in enumerate(zip(found, splits, strict=True)) if n not in dropped]
    conflicts = [
        (left, right) for left, right in sorted(alike["exact"]) if target_name(found[left]) != target_name(found[right])
    ]
    report = {
        "checked": len(found),
        "pairs": {kind: len(pairs) for kind, pairs in alike.items()},
        "between_splits": {kind: len(pairs) for kind, pairs in crossing.items()},
        "dropped": [found[index].id for index in sorted(dropped)],
        "left": 0,
        "examples": {
            kind: [[found[left].id, found[right].id] for left, right in pairs[:_EXAMPLES]]
            for kind, pairs in crossing.items()
        },
        "same_bytes_other_label": [[found[left].id, found[right].id] for left, right in conflicts],
    }
    return kept, report


def _connected(count: int, *pairs: set[Pair]) -> list[int]:
    """The number of the group of each of `count` photos, where the photos of a pair are of one group."""
    joined = np.array([pair for some in pairs for pair in some], np.int64).reshape(-1, 2)
    graph = sparse.coo_array((np.ones(len(joined)), tuple(joined.T)), (count, count))
    groups: list[int] = csgraph.connected_components(graph, directed=False)[1].tolist()
    return groups


def _draw(photos: list[Photo], groups: list[int], rules: Splitting) -> list[str]:
    """A split for each photo."""
    kept = {True: {TRAIN, VAL, TEST}, "test": {TEST}, False: set()}[rules.keep_given] | {FOREIGN}
    given = [p.split if p.split in kept or p.uri.startswith(SCENE) else None for p in photos]
    if rules.keep_given == "test" and any(
        split == TEST and not p.drawn for split, p in zip(given, photos, strict=True)
    ):
        rules = rules.model_copy(update={"test": 0.0})
    by_group: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        if given[index] is None:
            by_group[group].append(index)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for members in by_group.values():
        by_label[target_name(photos[members[0]])].append(members)
    rng = np.random.default_rng(rules.seed)
    drawn = list(given)
    for label in sorted(by_label):
        for members, split in _stratified(rng, by_label[label], rules):
            for index in members:
                drawn[index] = split
    return [split or TRAIN for split in drawn]


def _stratified(rng: np.random.Generator, groups: list[list[int]], rules: Splitting) -> Iterator[tuple[list[int], str]]:
    """Splits for the groups of one label, in random order: test first, then val, the rest is training.

    Large groups go to training, since figures on test should not depend on one scene, and so does the last one if no
    other did: what is not trained on cannot be tested.

    Yields:
        Members of a group, and their split.
    """
    total = sum(len(members) for members in groups)
    room = {TEST: total * rules.test, VAL: total * rules.val}
    held_out = 0
    for place in rng.permutation(len(groups)):
        members = groups[int(place)]
        split = next((name for name, left in room.items() if left > 0 and len(members) <= max(1.0, left * 1.5)), TRAIN)
        if held_out == len(groups) - 1:
            split = TRAIN
        if split in room:
            room[split] -= len(members)
            held_out += 1
        yield members, split


def _to_drop(alike: Mapping[str, set[Pair]], splits: list[str]) -> set[int]:
    """Indices to drop so that nothing leaks.

    Of copies, groups and scenes, all photos are dropped but those in the last split of _DROP_ORDER. To look nearly the
    same is not transitive, so of such photos only those that look like one in a later split are dropped.
    """
    ranks = [_DROP_ORDER.index(split) for split in splits]
    dropped: set[int] = set()
    for kind in ("exact", "group", "scene"):
        for members in buckets(_connected(len(splits), alike[kind])):
            last = max(ranks[index] for index in members)
            dropped.update(index for index in members if ranks[index] < last)
    for pair in sorted(alike["near"]):
        if ranks[pair[0]] != ranks[pair[1]] and not dropped & set(pair):
            dropped.add(min(pair, key=ranks.__getitem__))
    return dropped
