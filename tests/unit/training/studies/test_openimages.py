"""Study 4, row by row, on small data in the layout of Open Images and a file host on loopback."""

import hashlib
import io
import json
import shlex
import shutil
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
from training.data.photos import SPLITS, TEST, TRAIN
from training.errors import DataError, RecipeError
from training.models.served import normalise
from training.models.small_cnn import SmallCNN
from training.runs.run import Run, load_model
from training.studies.affine import Affine
from training.studies.drawn import jpeg
from training.studies.fit import Pictures, Plan, binary_cross_entropy, fit
from training.studies.openimages import STUDY
from training.studies.openimages import run as network
from training.studies.openimages.crops import crop, crop_file, overlay, pixel_box, resized, write_crops
from training.studies.openimages.data import Wanted, make, md5_of, read
from training.studies.openimages.fetch import fetch_lists, fetch_photos, journal, photo_file
from training.studies.openimages.lists import (
    BASE,
    BOXES,
    CLASSES,
    HIERARCHY,
    PHOTOS,
    Box,
    Original,
    boxes,
    list_file,
    originals,
)
from training.studies.openimages.placeholders import (
    KNOWN,
    MISSING,
    OTHER,
    REDIRECTED,
    REPEATED,
    SINGLE_CHANNEL,
    UNREADABLE,
    Rules,
    known_hashes,
    sort_out,
)
from training.studies.openimages.rebuild import commands, commands_with_package
from training.studies.openimages.report import metrics_of
from training.studies.openimages.run import Settings, pictures
from training.studies.openimages.tree import draw_whole, tree, whole_tree
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
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
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
    (tmp_path / BOXES).parent.mkdir(parents=True)
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
    first, second = ran[1].photos
    assert first == "Crops"
    assert second.startswith("Boxes of photo ")
    captions = list(ran[1].pictures)
    assert captions[:2] == ["Where the classes stand in the tree of all classes", "The tree of all classes: 5 nodes"]
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
    assert all(len(body) < 150_000 for body in (*ran[1].pictures.values(), *ran[1].photos.values()))
    assert Image.open(io.BytesIO(ran[1].photos["Crops"])).size == (640, 240)


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
    for name in (CLASSES, BOXES, PHOTOS):
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes((data / name).read_bytes())
    (copied / "images").symlink_to(data / "images")
    lines = (copied / BOXES).read_text().splitlines()
    doubled = [line.replace(",0.", ",0.0", 1) for line in lines[1:30]]  # a second, wider box on the same photos
    (copied / BOXES).write_text("\n".join(lines + doubled) + "\n")
    dishes = read(copied, Wanted(CLASSES_WANTED, Rules(), as_published=False, seed=0, workers=2), tmp_path, QUIET)
    places = {(crop_.group, crop_.split) for crop_ in dishes.crops}
    assert len(places) == len({crop_.group for crop_ in dishes.crops}) < len(dishes.crops)
    assert {split for _, split in places} == set(SPLITS)


def test_the_network_has_the_studys_layers_and_parameters() -> None:
    net = SmallCNN()
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
    assert {"lr": 5e-4, "alpha": 0.9, "eps": 1e-7, "momentum": 0}.items() <= optimiser.param_groups[0].items()


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
        net = SmallCNN(22, 8)
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
    test = sum(int(row[4]) for row in result.tables["Classification report on held-out crops"].rows[:2])
    assert test == sum(int(row[3]) for row in result.tables["Crops"].rows) < 20
    published = STUDY.run(replace(options, as_published=True, cache=tmp_path), QUIET)
    table = published.tables["Classification report on the crops of training, as published"]
    everything = sum(int(row[1]) for row in published.tables["Crops"].rows)
    assert sum(int(row[4]) for row in table.rows[:2]) == everything == 45 + 45  # boxes of groups too
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


def test_a_rebuild_from_an_empty_folder_downloads_lists_and_photos_from_the_releases_layout(
    ran: tuple[Options, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((ran[0].cache / "openimages" / "manifest.json").read_text())
    _, _, fetch, study = commands(manifest, "manifest.json")
    with file_host() as host:
        files = make(tmp_path / "release", 0, host.url(""), downloaded=False)
        for name in (CLASSES, BOXES, PHOTOS, HIERARCHY):
            host.files[f"/{name}"] = (tmp_path / "release" / name).read_bytes()
        host.files |= {f"/{photo}.jpg": body for photo, body in files.items()}
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        command(f"{fetch} --lists-from {host.url('')} --requests 1000")
        assert {path for path in host.asked() if path.startswith("/2018_04/")} == {
            "/2018_04/class-descriptions-boxable.csv",
            "/2018_04/train/train-annotations-bbox.csv",
            "/2018_04/train/train-images-boxable-with-rotation.csv",
            "/2018_04/bbox_labels_600_hierarchy.json",
        }
    own = study.partition(" --set manifest=")[0]
    command(f"{own} --out first --cache one")
    Path("manifest.json").write_bytes(Path("one/openimages/manifest.json").read_bytes())
    command(f"{study} --out second --cache two")
    assert "Rebuilt: " in Path("second/openimages.md").read_text()
    made = json.loads(Path("manifest.json").read_text())
    assert made["data"]["crops"] == manifest["data"]["crops"]
    from_package = commands_with_package(made, "manifest.json")
    assert len(from_package) == 3
    Path("one/openimages/package").rename("PACKAGE")
    shutil.rmtree("DIR")
    command(f"{from_package[2]} --out third --cache three")
    assert "Rebuilt: " in Path("third/openimages.md").read_text()
    assert made == json.loads(Path("three/openimages/manifest.json").read_text())


def command(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == ".venv/bin/photo-trainer"
    with pytest.raises(SystemExit) as ended:
        app(words[1:])
    assert ended.value.code == 0


def test_a_package_that_was_changed_or_cut_by_other_rules_is_refused(
    ran: tuple[Options, Result], tmp_path: Path
) -> None:
    packed = shutil.copytree(ran[0].cache / "openimages" / "package", tmp_path / "packed")
    wanted = Wanted(CLASSES_WANTED, Rules(), as_published=False, seed=0, workers=2)
    found = read(packed, wanted, tmp_path, QUIET)
    assert (len(found.crops), found.boxes) == (88, {})
    assert found.lists[CLASSES] == hashlib.sha256((packed / CLASSES).read_bytes()).hexdigest()
    with pytest.raises(DataError, match="only --as-published takes"):
        read(packed, replace(wanted, as_published=True), tmp_path, QUIET)
    file = next((packed / "images_cropped" / "Hamburger").iterdir())
    body = file.read_bytes()
    file.unlink()  # it may share its bytes with the cache
    file.write_bytes(body + b"x")
    with pytest.raises(DataError, match="was changed"):
        read(packed, wanted, tmp_path, QUIET)
    text = (packed / "package.json").read_text()
    (packed / "package.json").write_text(text.replace('"images_cropped/Hamburger/', '"../images_cropped/Hamburger/'))
    with pytest.raises(DataError, match="outside of the package"):
        read(packed, wanted, tmp_path, QUIET)
    (packed / "package.json").write_text("{}")
    with pytest.raises(DataError, match="not a package"):
        read(packed, wanted, tmp_path, QUIET)


def test_lists_lie_as_in_the_release_or_plainly(data: Path, tmp_path: Path) -> None:
    assert BASE == "https://storage.googleapis.com/openimages"
    assert list_file(data, BOXES) == data / "2018_04" / "train" / "train-annotations-bbox.csv"
    for name in (CLASSES, BOXES, PHOTOS):
        (tmp_path / Path(name).name).write_bytes((data / name).read_bytes())
    assert list_file(tmp_path, BOXES) == tmp_path / "train-annotations-bbox.csv"
    assert list(boxes(tmp_path, CLASSES_WANTED)) == list(boxes(data, CLASSES_WANTED))


def test_the_classes_are_listed_with_no_other_list_at_hand(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with file_host() as host:
        host.files[f"/{CLASSES}"] = (data / CLASSES).read_bytes()
        with pytest.raises(SystemExit) as ended:
            app(["fetch-openimages", "--data", str(tmp_path), "--list-classes", "--lists-from", host.url("")])
        assert ended.value.code == 0
        assert host.asked() == {f"/{CLASSES}": 1}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"class": "Hamburger", "id": "/m/0cdn1"}
    assert [line["class"] for line in lines] == ["Hamburger", "Sandwich", "Tree"]
    with pytest.raises(SystemExit) as ended:
        app(["fetch-openimages", "--data", str(tmp_path)])
    assert ended.value.code == 3


def test_a_file_with_another_size_or_md5_than_listed_is_a_placeholder(tmp_path: Path) -> None:
    with file_host() as host:
        files = remote(tmp_path, host)
        first, second, *_ = [photo for photo in files if photo.startswith("0")]
        host.files[f"/{first}.jpg"] = jpeg(Image.new("RGB", (90, 60), (9, 60, 200)))  # of no other rule's kind
        host.files[f"/{second}.jpg"] = files[second][:-1] + b"\x00"  # of the same size
        fetch_photos(tmp_path, CLASSES_WANTED, QUICK, QUIET)
    paths = {photo: photo_file(tmp_path, photo) for photo in (first, second)}
    listed = originals(tmp_path, list(paths))
    assert listed[first] == Original(host.url(f"/{first}.jpg"), len(files[first]), md5_of(files[first]))
    rules = (frozenset(), journal(tmp_path), Rules())
    assert sort_out(paths, *rules, listed) == {first: OTHER, second: OTHER}
    assert sort_out(paths, *rules[:2], Rules(hashes=False), listed) == {}
    moved = {photo: replace(original, url="https://elsewhere.invalid") for photo, original in listed.items()}
    assert sort_out(paths, *rules, moved) == {}
    dishes = read(tmp_path, Wanted(CLASSES_WANTED, Rules(), as_published=False, seed=0, workers=2), tmp_path, QUIET)
    assert "other bytes than listed 2" in dishes.notes[0]


def test_the_report_has_supports_and_three_averages_as_scikit_learn_does() -> None:
    labels, predicted = np.array([0] * 1399 + [1] * 1109), np.array([0] * 825 + [1] * 574 + [0] * 89 + [1] * 1020)
    metrics = metrics_of(CLASSES_WANTED, labels, predicted)
    table = {
        name: tuple(round(metrics[f"{name}, {key}"], 2) for key in ("precision", "recall", "f1-score", "support"))
        for name in (*CLASSES_WANTED, "micro avg", "macro avg", "weighted avg")
    }
    assert table == {  # the article's report, but for rounding
        "Hamburger": (0.9, 0.59, 0.71, 1399),
        "Sandwich": (0.64, 0.92, 0.75, 1109),
        "micro avg": (0.74, 0.74, 0.74, 2508),
        "macro avg": (0.77, 0.75, 0.73, 2508),
        "weighted avg": (0.79, 0.74, 0.73, 2508),
    }


def test_the_page_has_the_averages_beside_the_published_ones(ran: tuple[Options, Result]) -> None:
    rows = ran[1].tables["Classification report on held-out crops"].rows
    assert [row[0] for row in rows] == [*CLASSES_WANTED, "micro avg", "macro avg", "weighted avg"]
    assert len({row[4] for row in rows[2:]}) == 1
    published = {figure.figure: figure.value for figure in STUDY.published}
    assert [published[f"macro avg, {name}"] for name in ("precision", "recall", "F1")] == [0.77, 0.75, 0.73]
    assert set(published) <= set(ran[1].figures)
    assert len(ran[1].claims) == 2


def test_the_saved_network_is_a_run_that_predicts_what_the_study_found(
    ran: tuple[Options, Result], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ran[0].out / "openimages-run"
    run = Run.open(folder)
    assert run.finished
    manifest = run.data()
    photos = [photo.uri for photo in manifest.of(TEST)]
    with pytest.raises(SystemExit) as ended:
        app(["predict", *photos, "--run", str(folder)])
    assert ended.value.code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(photos) > 5
    assert all({"Hamburger", "Sandwich"} <= set(line["probabilities"]) for line in lines)
    assert all(line["probabilities"].get("no_logo", 0) < 0.001 for line in lines)
    net, _ = load_model(run)
    pixels = torch.from_numpy(np.stack([resized(Path(uri), 40, nearest=False) for uri in photos])).permute(0, 3, 1, 2)
    with torch.no_grad():
        shares = torch.softmax(net(normalise(pixels)), 1)[:, 1]
        alone = torch.sigmoid(net.net(pixels.float() / 255))[:, 0]  # type: ignore[operator]
    assert torch.allclose(shares, alone, atol=1e-5)
    right = ((shares > 0.5).numpy() == np.array([photo.label == "Sandwich" for photo in manifest.of(TEST)])).mean()
    assert right == pytest.approx(ran[1].figures["accuracy"].value)


def test_the_whole_tree_is_drawn_in_columns(tmp_path: Path) -> None:
    names = {f"/m/{number:04}": f"Class {number}" for number in range(600)}
    leaves = [{"LabelName": machine} for machine in names]
    groups = [{"LabelName": f"/g/{start}", "Subcategory": leaves[start : start + 50]} for start in range(0, 600, 50)]
    (tmp_path / CLASSES).parent.mkdir()
    (tmp_path / CLASSES).write_text("".join(f"{machine},{name}\n" for machine, name in names.items()))
    (tmp_path / HIERARCHY).write_text(json.dumps({"LabelName": "/m/0bl9f", "Subcategory": groups}))
    lines = whole_tree(tmp_path, frozenset({"Class 7"}))
    assert len(lines) == 1 + 12 + 600
    assert [line for line in lines if line[1].endswith(" *")] == [(2, "Class 7 *")]
    drawn = Image.open(io.BytesIO(draw_whole(lines)))
    assert drawn.width > 1000
    red, green, blue = np.asarray(drawn.convert("RGB")).astype(int).reshape(-1, 3).T
    assert ((red > 200) & (blue < 80) & (green < 200)).sum() > 100  # the marked class stands out
    few = Image.open(io.BytesIO(draw_whole(lines[:50])))
    assert few.width < drawn.width / 4


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
