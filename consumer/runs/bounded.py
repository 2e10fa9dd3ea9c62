"""Collections of bounded size whose content depends neither on the order of what is added nor on how it was parted."""

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, Generic, Protocol, TypeVar

_MAX_NAME: Final = 200


class Mergeable(Protocol):
    """What can take in another of its kind."""

    def merge(self, other: Any) -> None:  # noqa: ANN401 - its own kind, which a protocol cannot say of a bound
        """Adds all that the other has."""


Item = TypeVar("Item")
Part = TypeVar("Part", bound=Mergeable)


@dataclass(slots=True)
class Smallest(Generic[Item]):
    """The `most` items with the smallest keys: a number, then a text that decides between equal ones."""

    most: int
    #: In the order of their keys.
    kept: list[tuple[tuple[float, str], Item]] = field(default_factory=list)

    def add(self, number: float, text: str, item: Item) -> None:
        """Keeps the item if its key is among the smallest."""
        self._keep(((number, text), item))

    def merge(self, other: "Smallest[Item]") -> None:
        """Adds all that the other has."""
        for entry in other.kept:
            self._keep(entry)

    def __iter__(self) -> Iterator[Item]:
        return (item for _, item in self.kept)

    def _keep(self, entry: tuple[tuple[float, str], Item]) -> None:
        if len(self.kept) == self.most and entry[0] >= self.kept[-1][0]:
            return
        insort(self.kept, entry, key=itemgetter(0))
        del self.kept[self.most :]


@dataclass(slots=True)
class Named(Generic[Part]):
    """A part for each name, for the first `most` names in alphabetical order; `rest` has what the others add up to.

    Names that do not differ in their first 200 characters are one.
    """

    make: Callable[[], Part]
    most: int
    rest: Part = field(init=False)
    _parts: dict[str, Part] = field(default_factory=dict)
    #: The keys of the parts in order.
    _names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rest = self.make()

    def of(self, name: str) -> Part:
        """The part of a name, for what is to be added."""
        name = name[:_MAX_NAME]
        found = self._parts.get(name)
        if found is not None:
            return found
        if len(self._names) == self.most:
            if name > self._names[-1]:
                return self.rest
            self.rest.merge(self._parts.pop(self._names.pop()))
        insort(self._names, name)
        return self._parts.setdefault(name, self.make())

    def merge(self, other: "Named[Part]") -> None:
        """Adds all that the other has."""
        for name, part in other.items():
            self.of(name).merge(part)
        self.rest.merge(other.rest)

    def items(self) -> list[tuple[str, Part]]:
        """The names with their parts, in alphabetical order."""
        return [(name, self._parts[name]) for name in self._names]
