"""A published study: its figures and known mistakes, the options of a run, and the result of one."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from rich.console import Console

from training.errors import RecipeError

Settings = TypeVar("Settings")


@dataclass(frozen=True, slots=True)
class Article:
    """The article that a study repeats."""

    #: Empty where it is not known.
    title: str
    #: Its authors, or the company.
    authors: str
    #: None where it is not known.
    year: int | None = None
    #: The address where title, authors and date were looked up, and the date; empty where they were not found.
    seen: str = ""

    @property
    def text(self) -> str:
        """As a page names it."""
        title = f"“{self.title}”" if self.title else "an article whose title is not known"
        return f"{title}, {self.authors}, {self.year or 'year not known'}"

    @property
    def looked_up(self) -> str:
        """How far a page's name of the article can be trusted."""
        return (
            f"Title, authors and date as on {self.seen}." if self.seen else "A search for title and year found nothing."
        )


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that the study published; the page puts our figure of the same name beside it."""

    figure: str
    value: float | str
    source: str
    #: What differs from ours in every run; what differs in one run is the result's to say.
    differs: str = ""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A known mistake of the study: what it did, and what is done instead unless it is run as published."""

    name: str
    what: str
    corrected: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A finding of the article, and what a run found."""

    said: str
    here: str
    #: None where the run cannot tell.
    agrees: bool | None


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that a study names; `arch` is its name here, None where neither torchvision nor timm has it."""

    name: str
    arch: str | None
    input_px: int
    #: Why it is missing, and the nearest one that is there.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, with the bounds of its 95 % interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> str:
        """The bounds, for a table."""
        return f"{self.low:.3f} to {self.high:.3f}"


def proportion(value: float, count: int) -> Figure:
    """A share of `count` photos with Wilson's 95 % interval."""
    from training.statistics import wilson  # noqa: PLC0415 - SciPy loads slowly, and a list of studies needs no figures

    found = wilson(round(value * count) if count else 0, count)
    return Figure(value, found.low, found.high)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run of a study."""

    #: The data at hand: what they are, how many, how they differ from the study's.
    data: str
    #: By title.
    tables: Mapping[str, Table] = field(default_factory=dict)
    #: PNG files, by caption.
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    #: By the name that `Published.figure` uses for the same thing.
    figures: Mapping[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    #: PNG files that show photos of the data, by caption; a page without photos leaves them out.
    photos: Mapping[str, bytes] = field(default_factory=dict)
    #: What differs from the article's data, network and weights, by name of the figure; under "", for all others.
    differs: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a study."""

    data: Path
    out: Path
    cache: Path
    seed: int = 0
    #: Reproduce the known mistakes.
    as_published: bool = False
    #: A run of seconds; its figures are meaningless.
    quick: bool = False
    #: The data were made by code, in the layout of the study's.
    made: bool = False
    #: Values of the study's settings by name.
    overrides: Mapping[str, Any] = field(default_factory=dict)
    #: Files of weights by name of the network; a network without one starts from random weights.
    weights: Mapping[str, Path] = field(default_factory=dict)
    #: Start from ImageNet weights where there are any: those of an installed package, or those that the libraries
    #: download.
    pretrained: Literal[False, "package", "download"] = False
    #: Whether the page may show photos of the data.
    photos: bool = True
    #: The user's description of the data, for the page.
    about: str = ""

    def unfinished(self, study: str) -> Path:
        """Where the trainings of a study that was stopped go on."""
        return self.cache / "unfinished" / study


@dataclass(frozen=True, slots=True)
class Study:
    """One published study. Package training.studies.<name> holds `run.run` and `data.make`."""

    name: str
    title: str
    article: Article
    #: What it is about.
    origin: str
    #: The data that it needs, and their layout.
    data: str
    published: tuple[Published, ...]
    mistakes: tuple[Mistake, ...]
    models: tuple[Backbone, ...]
    #: What we would do today.
    today: tuple[str, ...]
    #: What the article leaves open, and how it is read; reproduced with its mistakes.
    left_open: tuple[Mistake, ...] = ()

    def run(self, options: Options, console: Console) -> Result:
        """Runs the study; raises as its `run.run`."""
        result: Result = self._module("run").run(options, console)
        shutil.rmtree(options.unfinished(self.name), ignore_errors=True)
        return result

    def make(self, folder: Path, seed: int) -> None:
        """Writes small data made by code, in the layout of the study's, into a folder."""
        self._module("data").make(folder, seed)

    def _module(self, name: str) -> ModuleType:
        """Imported when it is needed: torch takes seconds, and a list of studies must not."""
        return import_module(f"training.studies.{self.name}.{name}")


def settings_of(defaults: Settings, quick: Mapping[str, Any], options: Options) -> Settings:
    """A study's settings, a dataclass: its defaults, those of a quick run, and the user's values over both.

    Raises:
        RecipeError: An unknown name, or a value of another type than the default's.
    """
    known = {entry.name: getattr(defaults, entry.name) for entry in fields(defaults)}  # type: ignore[arg-type]
    values = dict(quick) if options.quick else {}
    for name, given in options.overrides.items():
        if name not in known:
            raise RecipeError(f"unknown setting {name}; there are {', '.join(known)}")
        value = float(given) if isinstance(known[name], float) and isinstance(given, int) else given
        value = tuple(value) if isinstance(known[name], tuple) and isinstance(value, list) else value
        if known[name] is not None and type(value) is not type(known[name]):
            raise RecipeError(f"{name} is {given!r}, not like {known[name]!r}")
        values[name] = value
    return replace(defaults, **values)  # type: ignore[type-var]


def remarks_of(options: Options) -> tuple[str, ...]:
    """Warnings for a model card: that a run reproduced the study's mistakes, or ran on drawings."""
    warnings = {
        "It was made as published, with the study's known mistakes: do not trust its figures.": options.as_published,
        "It was trained on small drawings that code makes: it is good for nothing but a test.": options.made,
    }
    return tuple(text for text, applies in warnings.items() if applies)
