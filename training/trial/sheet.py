"""The blind sheet: the model's picks mixed with photos that it did not pick, unmarked; and the key to it."""

import base64
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment
from markupsafe import Markup

from training.errors import DataError, RunError
from training.trial.topic import Tagged

SHEET, KEY = "sheet.html", "key.json"
#: What judges are asked, by the name in their verdicts.
QUESTIONS: Final = {"usable": "Usable", "in_context": "In context"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One photo of the sheet."""

    token: str
    photo_id: str
    picked: bool
    score: float


@dataclass(frozen=True, slots=True)
class Key:
    """What judges must not see and the report needs."""

    trial: str
    sampled: int
    good: int
    models: Mapping[str, str]
    entries: tuple[Entry, ...]
    #: Photos that could not be shown, and why.
    missing: Mapping[str, str]


#: The model's picks, and controls: photos that it did not pick.
Chosen = tuple[list[Tagged], list[Tagged]]


def choose(photos: Sequence[Tagged], picks: int, controls: int, seed: int) -> Chosen:
    """The highest scores among the photos that the model calls good, and controls drawn from all others.

    Raises:
        DataError: The model calls none of them good.
    """
    ranked = sorted((photo for photo in photos if photo.good), key=lambda photo: (-photo.score, photo.photo_id))
    picked = ranked[:picks]
    if not picked:
        raise DataError(f"the model calls none of the {len(photos)} photos good: there is nothing to judge")
    names = {photo.photo_id for photo in picked}
    others = [photo for photo in photos if photo.photo_id not in names]
    return picked, random.Random(f"controls {seed}").sample(others, min(controls, len(others)))


def located(chosen: Chosen, events: Mapping[tuple[str, int, int], Mapping[str, Any]]) -> Chosen:
    """The chosen photos with the URI and place of their upload events; events of another photo are ignored."""

    def with_event(photo: Tagged) -> Tagged:
        event = events.get(photo.source, {})
        if event.get("photo_id") != photo.photo_id or not isinstance(event.get("uri"), str):
            return photo
        place = event.get("place")
        return replace(photo, uri=event["uri"], place=place if isinstance(place, str) else None)

    picked, controls = ([with_event(photo) for photo in part] for part in chosen)
    return picked, controls


def make(
    folder: Path,
    drawn: Sequence[Tagged],
    chosen: Chosen,
    found: tuple[Mapping[str, bytes], Mapping[str, str]],
    seed: int,
) -> Key:
    """Writes sheet.html and key.json.

    Args:
        folder: The trial's folder.
        drawn: Every photo of the sample, for the counts.
        chosen: From `choose`.
        found: From `photos.collect`: JPEGs by photo id, and why other photos are missing.
        seed: Of the order of the photos.

    Raises:
        DataError: No photo can be shown.
    """
    shown, missing = found
    if not shown:
        raise DataError(f"no photo can be shown: {next(iter(missing.values()), 'nothing was chosen')}")
    ids = sorted(shown)
    trial = hashlib.sha256(json.dumps([seed, ids]).encode()).hexdigest()[:16]
    picked = {photo.photo_id for photo in chosen[0]}
    by_id = {photo.photo_id: photo for part in chosen for photo in part}
    random.Random(f"order {seed}").shuffle(ids)
    entries = tuple(Entry(_token(trial, name), name, name in picked, by_id[name].score) for name in ids)
    models = drawn[0].models if drawn else {}
    key = Key(trial, len(drawn), sum(photo.good for photo in drawn), models, entries, missing)
    places = [by_id[entry.photo_id].place for entry in entries]
    template = Environment(autoescape=True).from_string(files("training.trial").joinpath("sheet.html").read_text())
    page = template.render(
        trial=trial,
        photos=[
            {"token": entry.token, "body": base64.b64encode(shown[entry.photo_id]).decode(), "place": place}
            for entry, place in zip(entries, places, strict=True)
        ],
        questions=list(QUESTIONS.items()),
        context="the place named under it" if any(places) else "the place or thing that it was uploaded for",
        trial_json=Markup(json.dumps(trial)),  # noqa: S704 - hexadecimal digits
        keys_json=Markup(json.dumps(list(QUESTIONS))),  # noqa: S704 - names from above
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SHEET).write_text(page + "\n")
    (folder / KEY).write_text(json.dumps(asdict(key), indent=1) + "\n")  # last: it makes the folder a trial
    return key


def _token(trial: str, photo_id: str) -> str:
    """A name for the page that reveals nothing, as photo ids may."""
    return hashlib.sha256(f"{trial} {photo_id}".encode()).hexdigest()[:12]


def read_key(folder: Path) -> Key:
    """The key of a trial.

    Raises:
        RunError: The folder has none.
    """
    try:
        values: dict[str, Any] = json.loads((folder / KEY).read_text())
        entries = tuple(Entry(**entry) for entry in values.pop("entries"))
        return Key(**values, entries=entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} is not a trial: {type(error).__name__}: {error}") from None
