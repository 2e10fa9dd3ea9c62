"""Small rated photos with metadata, made by code in the study's layout: their figures say nothing of real ones."""

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from training.studies.grades.metadata import IMAGE, LIST, RATING, USER
from training.studies.rated import write_photo

COUNT, _USERS = 600, 60
#: Most photos are middling, as people rate.
_SHARES: Final = (0.08, 0.16, 0.44, 0.21, 0.11)
_CITIES: Final = ("Delhi", "Mumbai", "Pune", "Jaipur", "Bengaluru")
_PLACES: Final = ("cafe", "restaurant", "salon", "grocery", "pub", "bakery")
_DEVICES: Final = ("A1", "A2", "B1", "C7", "C9", "D3")
_MISSING: Final = 0.06


def make(folder: Path, seed: int, count: int = COUNT) -> None:
    """Writes photos/*.jpg and ratings.csv with 22 metadata features, a few cells of them empty."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(0, 0.7, _USERS)
    lines = []
    for number in range(count):
        user = int(rng.integers(_USERS))
        drawn = rng.choice(5, p=_SHARES) + 1 + skill[user] * rng.random()
        rating = int(np.clip(np.round(drawn), 1, 5))
        name = f"photos/{number:05d}.jpg"
        image = write_photo(folder / name, rng, rating)
        kilobytes = (folder / name).stat().st_size / 1024
        light = float(np.asarray(image.convert("L")).mean())
        facts = {**_context(rng, user), "file_kb": f"{kilobytes:.2f}", "mean_brightness": f"{light:.1f}"}
        facts = {key: "" if rng.random() < _MISSING else value for key, value in facts.items()}
        lines.append({IMAGE: name, RATING: str(rating), USER: f"user-{user}", **facts})
    with (folder / LIST).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _context(rng: np.random.Generator, user: int) -> dict[str, str]:
    """Twenty features that a photo's upload brings along."""
    taken = datetime(2018, 1, 1) + timedelta(minutes=int(rng.integers(525_600)))  # noqa: DTZ001 - a camera's clock
    return {
        "taken_at": taken.isoformat(),
        "upload_time": (taken + timedelta(minutes=int(rng.integers(600)))).time().isoformat("minutes"),
        "upload_delay_min": str(int(rng.integers(600))),
        "city": str(rng.choice(_CITIES)),
        "locality": f"locality-{rng.integers(25)}",
        "latitude": f"{28 + rng.normal(0, 2):.4f}",
        "longitude": f"{77 + rng.normal(0, 2):.4f}",
        "place_id": f"place-{rng.integers(90)}",
        "place_category": str(rng.choice(_PLACES)),
        "place_rating": f"{rng.uniform(2, 5):.1f}",
        "place_photos": str(int(rng.integers(1, 400))),
        "device": str(rng.choice(_DEVICES)),
        "app_version": f"{rng.integers(3, 7)}.{rng.integers(10)}",
        "orientation": str(rng.choice(("portrait", "landscape"))),
        "flash": str(rng.choice(("on", "off"))),
        "caption_length": str(int(rng.integers(120))),
        "transaction_value": f"{rng.gamma(2, 400):.0f}",
        "cashback": f"{rng.gamma(2, 40):.0f}",
        "user_photos": str(int(user * 7 % 90 + rng.integers(5))),
        "user_followers": str(int(user * 31 % 700)),
    }
