"""Study 4, row by row, on small data in the layout of Open Images and a file host on loopback."""

import hashlib
import io
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from tests.slow_host import FileHost, file_host
from training.cli.main import app
from training.data.decode import decode
from training.data.download import Limits
from training.data.photos import SPLITS, TRAIN
from training.errors import DataError, RecipeError
from training.studies.affine import Affine
from training.studies.fit import Pictures, Plan, binary_cross_entropy, fit
from training.studies.openimages import STUDY
from training.studies.openimages import run as network
from training.studies.openimages.crops import crop, crop_file, overlay, pixel_box, write_crops
from training.studies.openimages.data import Wanted, make, read
from training.studies.openimages.fetch import fetch_lists, fetch_photos, journal, photo_file
from training.studies.openimages.lists import BOXES, CLASSES, HIERARCHY, PHOTOS, Box, boxes, tree
from training.studies.openimages.placeholders import (
    KNOWN,
    MISSING,
    REDIRECTED,
    REPEATED,
    SINGLE_CHANNEL,
    UNREADABLE,
    Rules,
    known_hashes,
    sort_out,
)
from training.studies.openimages.rebuild import commands
from training.studies.openimages.run import Settings, pictures
from training.studies.study import Options, Result

QUIET = Console(quiet=True)
ROOT = Path(__file__).parents[4]
CLASSES_WANTED = ("Hamburger", "Sandwich")
QUICK = Limits(requests=10_000, pause_s=0.0, timeout_s=5)
#: Photos of both classes, the placeholders and the grey one included.
PHOTOS_WANTED = 93


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open")
    make(folder, 0)
    return folder


@pytest.fixture(scope="module")
def ran(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Options, Result]:
    folder = tmp_path_factory.mktemp("ran")
    options = Options(data, folder / "out", folder / "cache", quick=True, made=True)
    return options, STUDY.run(options, QUIET)


def without_photos(data: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in (CLASSES, BOXES, PHOTOS):
        (folder / name).write_bytes((data / name).read_bytes())
    return folder


def remote(folder: Path, host: FileHost) -> dict[str, bytes]:
    """The lists in a folder, and the photos on a host."""
    files = make(folder, 0, host.url(""), downloaded=False)
    host.files |= {f"/{photo}.jpg": body for photo, body in files.items()}
    return files


def test_photos_of_the_classes_are_downloaded_with_pace_retry_and_resume(tmp_path: Path) -> None:
    with file_host() as host:
        files = remote(tmp_path, host)
        wanted = [photo for photo in files if not photo.startswith("2")]
        host.trouble(f"/{wanted[0]}.jpg", 503, "cut")
        host.trouble(f"/{wanted[1]}.jpg", *[500] * 5)
        del host.files[f"/{wanted[2]}.jpg"]
        ended = fetch_photos(tmp_path, CLASSES_WANTED, QUICK, QUIET)
        assert ended == {"done": PHOTOS_WANTED - 2, "failed": 1, "gone": 1}
        assert host.asked()[f"/{wanted[0]}.jpg"] == 3
        assert not any(path.startswith("/2") for path in host.asked())  # no photo of another class
        assert photo_file(tmp_path, wanted[0]).read_bytes() == files[wanted[0]]
        before = len(host.requests)
        again = fetch_photos(tmp_path, CLASSES_WANTED, QUICK, QUIET)
        assert again == {"here": PHOTOS_WANTED - 2, "done": 1, "gone": 1}
        assert [path for _, path, _ in host.requests[before:]] == [f"/{wanted[1]}.jpg"]
        assert journal(tmp_path)[wanted[2]]["status"] == "gone"


def test_five_requests_start_in_any_five_seconds_unless_told_otherwise(tmp_path: Path) -> None:
    assert (Limits().requests, Limits().per_s) == (5, 5.0)
    with file_host() as host:
        remote(tmp_path, host)
        fetch_photos(tmp_path, CLASSES_WANTED, Limits(requests=40, per_s=0.5, connections=3), QUIET)
        times = sorted(at for at, _, _ in host.requests)
        assert len(times) == PHOTOS_WANTED
        assert times[-1] - times[0] > 0.8  # 93 by forties: two full waits


def test_a_killed_download_goes_on_without_asking_again(tmp_path: Path) -> None:
    with file_host() as host:
        files = remote(tmp_path, host)
        arguments = ["--data", str(tmp_path), "--class", "Hamburger", "--requests", "8", "--per-s", "0.3"]
        command = [sys.executable, "-m", "training.cli", "fetch-openimages", *arguments]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        host.wait_for_requests(12)
        child.kill()
        child.wait(30)
        arrived = {path.stem for path in (tmp_path / "images").glob("[!.]*.jpg")}
        before = len(host.requests)
        assert arrived
        ended = fetch_photos(tmp_path, ("Hamburger",), QUICK, QUIET)
        assert ended["here"] == len(arrived)
        asked = {path[1:-4] for _, path, _ in host.requests[before:]}
        assert not asked & arrived
        assert all(photo_file(tmp_path, photo).read_bytes() == files[photo] for photo in asked | arrived)


def test_missing_lists_are_downloaded_and_a_mirror_may_hold_the_photos(data: Path, tmp_path: Path) -> None:
    with file_host() as host:
        for name in (CLASSES, BOXES, PHOTOS):
            host.files[f"/v4/{name}"] = (data / name).read_bytes()
        host.files |= {f"/m/{path.stem}": path.read_bytes() for path in (data / "images").iterdir()}
        fetch_lists(tmp_path, host.url("/v4/"), QUICK)
        assert not (tmp_path / HIERARCHY).exists()
        ended = fetch_photos(tmp_path, ("Sandwich",), QUICK, QUIET, host.url("/m/{id}"))
        assert ended == {"done": 45}
        fetch_lists(tmp_path, "http://127.0.0.1:1", Limits(attempts=1))  # all are here: nothing is asked for
        (tmp_path / BOXES).unlink()
        with pytest.raises(DataError, match="could not be downloaded"):
            fetch_lists(tmp_path, "http://127.0.0.1:1", Limits(attempts=1))


def test_lists_with_nonsense_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class Pizza"):
        list(boxes(data, ("Pizza",)))
    (tmp_path / CLASSES).write_text("/m/1,Hamburger\n")
    (tmp_path / BOXES).write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/1,0.5,0.2,0,1\n")
    with pytest.raises(DataError, match="line 2: no box"):
        list(boxes(tmp_path, ("Hamburger",)))
    (tmp_path / BOXES).write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/1,left,0.2,0,1\n")
    with pytest.raises(DataError, match="line 2: could not convert"):
        list(boxes(tmp_path, ("Hamburger",)))
    with pytest.raises(RecipeError, match="can stand in it"):
        fetch_photos(without_photos(data, tmp_path / "lists"), ("Hamburger",), QUICK, QUIET, "http://host/{name}")
    with pytest.raises(DataError, match="not a photo id"):
        photo_file(tmp_path, "../x")


def test_placeholders_are_dropped_by_channel_hash_and_repetition(data: Path, tmp_path: Path) -> None:
    def picture(name: str, image: Image.Image) -> Path:
        image.save(tmp_path / f"{name}.png")
        return tmp_path / f"{name}.png"

    noise = Image.effect_noise((40, 40), 60)
    colour = Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180)))
    files = {
        "fine": picture("fine", colour),
        "grey": picture("grey", noise),
        "known": picture("known", colour.rotate(90)),
        "twin1": picture("twin1", colour.rotate(180)),
        "twin2": picture("twin2", colour.rotate(180)),
        "moved": picture("moved", colour.rotate(270)),
        "missing": tmp_path / "missing.png",
        "broken": tmp_path / "broken.png",
    }
    files["broken"].write_bytes(b"<html>")
    digest = hashlib.sha256(files["known"].read_bytes()).hexdigest()
    (tmp_path / "placeholders.txt").write_text(f"# of a photo host\n{digest.upper()}  # seen 2019\n")
    asked = {"moved": {"final_url": "https://host.invalid/photo_unavailable.png"}}
    dropped = sort_out(files, known_hashes(tmp_path), asked, Rules())
    assert dropped == {
        "grey": SINGLE_CHANNEL,
        "known": KNOWN,
        "twin1": REPEATED,
        "twin2": REPEATED,
        "moved": REDIRECTED,
        "missing": MISSING,
        "broken": UNREADABLE,
    }
    published = sort_out(files, known_hashes(tmp_path), asked, Rules(hashes=False))
    assert published == {"grey": SINGLE_CHANNEL, "missing": MISSING, "broken": UNREADABLE}
    assert "grey" not in sort_out(files, frozenset(), {}, Rules(single_channel=False))
    (tmp_path / "placeholders.txt").write_text("no hash\n")
    with pytest.raises(DataError, match="line 1"):
        known_hashes(tmp_path)
    assert known_hashes(data) == frozenset()


def test_a_crop_holds_exactly_the_pixels_of_its_box(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (75, 101, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    box = Box("a", "Hot dog", 7, (0.1, 0.2, 0.555, 0.9), group=False, depiction=False)
    assert pixel_box(box, 101, 75) == (10, 15, 56, 68)
    assert np.array_equal(np.asarray(crop(Image.fromarray(pixels), box)), pixels[15:68, 10:56])
    ((_, path),) = write_crops(tmp_path / "a.png", [box], tmp_path)
    assert path == tmp_path / "images_cropped" / "Hot_dog" / "a_7.png" == crop_file(tmp_path, box)
    assert np.array_equal(np.asarray(Image.open(path)), pixels[15:68, 10:56])
    whole = replace(box, sides=(0.0, 0.0, 1.0, 1.0))
    assert np.array_equal(np.asarray(crop(Image.fromarray(pixels), whole)), pixels)
    assert write_crops(tmp_path / "a.png", [replace(box, line=8, sides=(0.0, 0.0, 0.05, 1.0))], tmp_path) == []
    before = path.stat().st_mtime_ns
    (tmp_path / "a.png").unlink()
    assert write_crops(tmp_path / "a.png", [box], tmp_path) == [(box, path)]
    assert path.stat().st_mtime_ns == before


def test_montage_overlay_and_tree_are_on_the_page(ran: tuple[Options, Result], data: Path) -> None:
    captions = list(ran[1].pictures)
    assert captions[0] == "Crops"
    assert captions[1].startswith("Boxes of photo ")
    assert captions[2] == "Where the classes stand in the tree of all classes"
    assert tree(data, frozenset(CLASSES_WANTED)) == [
        (0, "Entity"),
        (1, "/m/02wbm"),
        (2, "Hamburger *"),
        (2, "Sandwich *"),
        (1, "(1 others)"),
    ]
    box = next(boxes(data, ("Hamburger",)))
    photo = photo_file(data, box.photo)
    drawn, plain = np.asarray(overlay(photo, [box])), np.asarray(decode(photo.read_bytes(), 480).image)
    left, top, right, bottom = pixel_box(box, plain.shape[1], plain.shape[0])
    assert tuple(drawn[(top + bottom) // 2, left]) == tuple(drawn[top, (left + right) // 2]) == (255, 220, 0)
    assert all(len(body) < 150_000 for body in ran[1].pictures.values())
    assert Image.open(io.BytesIO(ran[1].pictures["Crops"])).size == (640, 240)


def test_counts_stand_beside_the_published_ones(ran: tuple[Options, Result]) -> None:
    published = {figure.figure: figure.value for figure in STUDY.published}
    assert (published["crops of Hamburger"], published["crops of Sandwich"]) == (1399, 1109)
    assert ran[1].figures["crops of Hamburger"].value == 44  # 45 photos, less one box around a group
    assert any("3 of 91 photos are dropped: same bytes as another 2, single channel 1" in n for n in ran[1].notes)


def test_training_changes_photos_by_the_studys_values(data: Path, tmp_path: Path) -> None:
    assert Affine(rotation_deg=40, shift=0.2, shear_deg=0.2, zoom=0.2, flip=True) == network.CHANGES
    settings = Settings()
    assert (settings.px, settings.batch) == (128, 16)
    dishes = read(data, Wanted(CLASSES_WANTED, Rules(), as_published=False, seed=0, workers=2), tmp_path, QUIET)
    shown = pictures(dishes, 128, nearest=False)
    rng, some = np.random.default_rng(0), np.arange(4)
    first, second = shown[TRAIN].pick(rng, some), shown[TRAIN].pick(rng, some)
    assert first.shape == (4, 3, 128, 128)
    assert 0 <= float(first.min()) < float(first.max()) <= 1
    assert not torch.allclose(first, second)
    assert torch.equal(shown["val"].pick(rng, some), shown["val"].pick(rng, some))


def test_crops_of_one_photo_stay_in_one_split(data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    copied.mkdir()
    for path in data.glob("*.*"):
        (copied / path.name).write_bytes(path.read_bytes())
    (copied / "images").symlink_to(data / "images")
    lines = (copied / BOXES).read_text().splitlines()
    doubled = [line.replace(",0.", ",0.0", 1) for line in lines[1:30]]  # a second, wider box on the same photos
    (copied / BOXES).write_text("\n".join(lines + doubled) + "\n")
    dishes = read(copied, Wanted(CLASSES_WANTED, Rules(), as_published=False, seed=0, workers=2), tmp_path, QUIET)
    places = {(crop_.group, crop_.split) for crop_ in dishes.crops}
    assert len(places) == len({crop_.group for crop_ in dishes.crops}) < len(dishes.crops)
    assert {split for _, split in places} == set(SPLITS)


def test_the_network_has_the_studys_layers_and_parameters() -> None:
    net = network.SmallCNN()
    assert (
        sum(values.numel() for values in net.parameters())
        == 896 + 9_248 + 18_496 + 64 * (64 * 14 * 14 + 1) + 65
        == 831_521 + 64
    )
    shapes, seen = [], torch.zeros(1, 3, 128, 128)
    for layer in net:
        seen = layer(seen).detach()
        if isinstance(layer, nn.MaxPool2d | nn.Linear):
            shapes.append(tuple(seen.shape[1:]))
    assert shapes == [(32, 63, 63), (32, 30, 30), (64, 14, 14), (64,), (1,)]
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.5]
    optimiser = network.optimiser(net.parameters())
    assert isinstance(optimiser, torch.optim.RMSprop)
    assert optimiser.param_groups[0]["lr"] == 5e-4


def test_training_stops_four_epochs_after_the_best_and_restores_it(tmp_path: Path) -> None:
    assert (Settings().epochs, Settings().patience) == (50, 4)
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    noise = torch.from_numpy(rng.normal(0, 1, (32, 3, 22, 22)).astype(np.float32))
    train = Pictures(lambda _rng, indices: noise[indices], labels)
    val = Pictures(lambda _rng, indices: noise[indices].flip(3), 1 - labels)  # learning makes it worse
    kept = {}
    for keep in ("best", "last"):
        torch.manual_seed(0)
        net = network.SmallCNN(22, 8)
        plan = Plan(50, 16, network.optimiser, binary_cross_entropy, "loss", patience=4, keep=keep)  # type: ignore[arg-type]
        fitted = fit(net, {"train": train, "val": val}, plan, tmp_path / keep, QUIET)
        assert len(fitted.epochs) == fitted.best.number + 4 < 50
        assert fitted.best.val_loss == min(epoch.val_loss for epoch in fitted.epochs)
        kept[keep] = {name: value.clone() for name, value in net.state_dict().items()}
        saved = torch.load(fitted.file, weights_only=True)
        assert all(torch.equal(saved[name], kept[keep][name]) for name in saved) == (keep == "best")


def test_the_report_is_on_held_out_photos_unless_as_published(ran: tuple[Options, Result], tmp_path: Path) -> None:
    options, result = ran
    assert "Classification report on held-out crops" in result.tables
    test = sum(int(row[4]) for row in result.tables["Classification report on held-out crops"].rows)
    assert test == sum(int(row[3]) for row in result.tables["Crops"].rows) < 20
    published = STUDY.run(replace(options, as_published=True, cache=tmp_path), QUIET)
    table = published.tables["Classification report on the crops of training, as published"]
    everything = sum(int(row[1]) for row in published.tables["Crops"].rows)
    assert sum(int(row[4]) for row in table.rows) == everything == 45 + 45  # boxes of groups too
    assert any("trained on: it says nothing about new photos" in note for note in published.notes)
    assert any("as published" in note for note in published.notes)


def test_a_rebuild_has_the_same_manifest_to_the_bit_and_equal_metrics(
    ran: tuple[Options, Result], tmp_path: Path, data: Path
) -> None:
    options, result = ran
    path = options.cache / "openimages" / "manifest.json"
    first = path.read_text()
    manifest = json.loads(first)
    assert set(manifest) == {"data", "code", "environment", "settings", "metrics"}
    assert len(manifest["data"]["crops"]) == 88
    assert str(data) not in first
    steps = commands(manifest, "manifest.json")
    assert len(steps) == 4
    moved = tmp_path / "moved"
    moved.symlink_to(data)
    again = replace(options, data=moved, cache=tmp_path / "cache", overrides={"manifest": str(path)})
    rebuilt = STUDY.run(again, QUIET)
    assert (tmp_path / "cache" / "openimages" / "manifest.json").read_bytes() == first.encode()
    assert {name: figure.value for name, figure in rebuilt.figures.items()} == {
        name: figure.value for name, figure in result.figures.items()
    }
    assert any(note.startswith("Rebuilt: ") for note in rebuilt.notes)
    with pytest.raises(DataError, match=r"differs from manifest\.json in data, settings"):
        STUDY.run(replace(again, seed=5), QUIET)


def test_the_fourth_command_of_a_rebuild_runs(
    ran: tuple[Options, Result], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ran[0].cache / "openimages" / "manifest.json"
    (tmp_path / "manifest.json").write_text(path.read_text())
    line = commands(json.loads(path.read_text()), "manifest.json")[3].replace("DIR", str(data))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        app(shlex.split(line)[1:])
    assert ended.value.code == 0
    assert "Rebuilt: " in (tmp_path / "studies" / "openimages.md").read_text()


def test_the_command_downloads_and_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with file_host() as host:
        files = remote(tmp_path, host)
        first = next(iter(files))
        host.trouble(f"/{first}.jpg", 500)
        arguments = ["fetch-openimages", "--data", str(tmp_path), "--class", "Hamburger", "--requests", "1000"]
        with pytest.raises(SystemExit) as ended:
            app([*arguments, "--attempts", "1"])
        assert ended.value.code == 4
        assert '"failed": 1' in capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            app(arguments)
        assert ended.value.code == 0


def test_classes_are_two(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two"):
        STUDY.run(Options(data, tmp_path, tmp_path, overrides={"classes": ["Hamburger"]}), QUIET)
