"""Every command of the page on training, as a newcomer types it, on a folder of brands and a list of ratings."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.photo_folders import BRANDS, brand_folders, photo

ROOT = Path(__file__).parents[2]
DEADLINE_S = 280
#: Appended to every training: it is to run, not to be good.
SHORT = " --set train.steps=20 --set train.views=1 --set train.batch=32"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/<brand>/, rated/ratings.csv, other/, uploads/ and one.jpg; names have spaces, capitals and umlauts."""
    folder = tmp_path_factory.mktemp("newcomer")
    brand_folders(folder / "photos", each=12)
    for index in range(4):
        (folder / "photos" / "acme" / f"{index}.jpg").rename(folder / "photos" / "acme" / f"Größe {index}.JPG")
    (folder / "other").mkdir()
    photo(900, len(BRANDS)).save(folder / "other" / "1.jpg")
    shutil.copytree(folder / "photos" / "bolt", folder / "uploads" / "new ones")
    shutil.copy(folder / "photos" / "acme" / "Größe 1.JPG", folder / "one.jpg")
    (folder / "rated").mkdir()
    with (folder / "rated" / "ratings.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["image", "rating", "mos", "uploader"])
        for index in range(60):
            photo(1000 + index, index % 3).save(folder / "rated" / f"{index}.jpg")
            lines.writerow([f"{index}.jpg", 1 + index % 5, index % 5 / 4, f"user {index // 2}"])
    return folder


def commands() -> list[str]:
    section = (
        (ROOT / "docs" / "how-to" / "train.md")
        .read_text()
        .partition("## From your own photos")[2]
        .partition("\n## ")[0]
    )
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("photo-trainer ")]
    return [line.partition("#")[0] + SHORT if line.startswith("photo-trainer train ") else line for line in lines]


@pytest.mark.timeout(DEADLINE_S + 20)
def test_every_command_of_the_page_does_what_it_says(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "acceptance" / "page_script.py"],
        input="\n".join(commands()),
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["command"] for row in rows] == commands(), done.stderr
    assert [row for row in rows if row["code"]] == [], done.stderr
    assert "share nothing" in (place / "runs" / "mine" / "evaluation" / "report.html").read_text()
    assert (place / "data-sheet.html").is_file()
    taught = json.loads((place / "runs" / "pupil" / "data.json").read_text())
    assert (taught["teacher"]["name"], taught["teacher"]["unrated"]) == ("mine-q", 24)
    assert not [doubt for doubt in taught["doubts"] if "teacher" in doubt]
    assert len(list((place / "seen").rglob("*.png"))) == 36
