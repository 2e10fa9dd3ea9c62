"""Composed data: shapes, balance, disjoint splits, and damage that grows with its grade."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data.assemble import _copies, _damaged
from training.data.backgrounds import PHOTOS, background_bank, scene
from training.data.compose import Look, _blur_matrix, mark_coordinates, paste, placements
from training.data.degrade import WORST, Damage, damaged, degrade, overexposed
from training.data.logos import BRANDS, Logos, brand_logos, brand_names, distractor_names, render_mask
from training.data.packshots import on_white
from training.data.photos import LEVELS, SPLITS, TEST, Photo
from training.data.sets import INPUT_PX, BrandComposer, Origin
from training.recipes.sources import CopiedSource


@pytest.fixture(scope="module")
def bank() -> torch.Tensor:
    return background_bank(7, TEST, 12, 128)


@pytest.fixture(scope="module")
def brands() -> Logos:
    return brand_logos()


@pytest.fixture
def composer(bank: torch.Tensor, brands: Logos) -> BrandComposer:
    return BrandComposer(bank, brands, brands)


def psnr(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(-10 * (left - right).square().mean().clamp(min=1e-12).log10())


def test_no_photo_or_mark_is_in_two_splits() -> None:
    photos = [photo for split in SPLITS for photo in PHOTOS[split]]
    marks = [name for split in SPLITS for name in distractor_names(split)]
    assert len(set(photos)) == len(photos)
    assert len(set(marks)) == len(marks)
    assert not [name for name in marks if any(brand in name for brand in BRANDS)]


def test_a_bank_depends_on_its_seed_alone(bank: torch.Tensor) -> None:
    assert torch.equal(bank[:4], background_bank(7, TEST, 4, 128))
    assert not torch.equal(bank[:4], background_bank(8, TEST, 4, 128))


def test_every_brand_has_ink_that_no_other_brand_has(brands: Logos) -> None:
    assert brands.names == BRANDS
    ink = brands.masks.flatten(1).float() / 255
    assert (ink.mean(1) > 0.03).all()
    overlap = torch.corrcoef(ink) - torch.eye(len(BRANDS))
    assert overlap.max() < 0.8


def test_a_mask_keeps_its_margin() -> None:
    mask = render_mask(
        '<svg viewBox="0 0 24 24" xmlns="http://www.w3.org/2000/svg"><path d="M0 0h24v24H0z"/></svg>', 100
    )
    assert mask[50, 50] == 255
    assert mask[2].max() == 0
    assert mask[:, 97].max() == 0


@settings(max_examples=6, deadline=None)
@given(count=st.integers(10, 40), seed=st.integers(0, 1000))
def test_a_batch_is_uint8_balanced_and_labelled_by_origin(
    composer_example: BrandComposer, count: int, seed: int
) -> None:
    made = composer_example.batch(np.random.default_rng(seed), count)
    assert made.images.dtype == torch.uint8
    assert made.images.shape == (count, 3, INPUT_PX, INPUT_PX)
    branded = made.labels[made.origins == Origin.BRAND]
    assert len(branded) == count // 2
    per_brand = torch.bincount(branded, minlength=len(BRANDS))
    assert per_brand.max() - per_brand.min() <= 1
    assert (made.labels[made.origins != Origin.BRAND] == len(BRANDS)).all()


@pytest.fixture(scope="module")
def composer_example(bank: torch.Tensor, brands: Logos) -> BrandComposer:
    return BrandComposer(bank, brands, brands)


def test_a_fixed_set_can_be_made_again(composer: BrandComposer) -> None:
    first, second = composer.fixed(3, 20), composer.fixed(3, 20)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)


def test_a_pasted_mark_changes_the_photo_only_where_it_lies(brands: Logos) -> None:
    photos = torch.full((8, 3, 96, 96), 0.5)
    look = Look(smallest=0.3, largest=0.3, plate=0, occluded=0, perspective=0)
    made = paste(np.random.default_rng(0), photos.clone(), brands.masks[:8], brands.colours[:8], look)
    changed = ((made - 0.5).abs().amax(1) > 0.05).float().mean((1, 2))
    assert (changed > 0.005).all()
    assert (changed < 0.2).all()
    assert made.min() >= 0
    assert made.max() <= 1


def test_marks_stay_in_reach_and_have_the_size_that_was_asked() -> None:
    look = Look(smallest=0.5, largest=0.5, angle=0, perspective=0, reach=1.0)
    grid = mark_coordinates(placements(np.random.default_rng(1), 50, look), 64)
    inside = (grid.abs() <= 1).all(-1)
    assert torch.allclose(inside.float().mean((1, 2)), torch.tensor(0.25), atol=0.03)
    assert not inside[:, 0, :].any(1).all()


def test_thin_ink_of_a_small_mark_keeps_its_share_of_the_photo() -> None:
    stripes = torch.zeros(1, 1, 128, 128, dtype=torch.uint8)
    stripes[..., ::4] = 255  # a quarter is ink
    for size in (1 / 6, 0.3, 0.8):
        look = Look(size, size, angle=0, perspective=0, plate=0, occluded=0, faintest=1.0, reach=1.0)
        for seed in range(4):
            photo = torch.full((1, 3, 96, 96), 0.5)
            made = paste(np.random.default_rng(seed), photo.clone(), stripes, torch.zeros(1, 3), look)
            inked = (made - photo).abs().mean() / (made - photo).abs().max()
            assert made.std() > 0
            assert float((made - photo).abs().mean()) == pytest.approx(0.45 * size**2 / 4, rel=0.25), (size, inked)


def test_no_weight_of_a_blur_is_denormal() -> None:
    for sigma in (0.3, 1.3, 5.0):
        weights = _blur_matrix(160, sigma)
        assert torch.allclose(weights.sum(1), torch.ones(160))
        assert not ((weights > 0) & (weights < torch.finfo(torch.float32).tiny * 1e6)).any()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return scene(np.random.default_rng(2), TEST, 384)


def loss(photo: Image.Image, made: Image.Image, px: int = 96) -> float:
    """PSNR, dB, of a photo against another as a model sees both."""
    seen = [p.resize((px, px), Image.Resampling.BILINEAR) for p in (photo, made)]
    return psnr(*(torch.from_numpy(np.array(p, np.float32) / 255) for p in seen))


@pytest.mark.parametrize("damage", list(Damage))
def test_damage_grows_with_severity(damage: Damage, picture: Image.Image) -> None:
    made = [degrade(np.random.default_rng(0), picture, damage, severity) for severity in range(WORST + 1)]
    assert made[0] is picture
    seen = [loss(picture, one, 192) for one in made]
    assert seen == sorted(seen, reverse=True)
    assert seen[1] - seen[WORST] > 3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), severity=st.integers(0, WORST), width=st.integers(1, 90))
def test_damage_keeps_the_size(seed: int, severity: int, width: int) -> None:
    photo = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, width, 3), np.uint8))
    made = damaged(np.random.default_rng(seed), photo, severity)
    assert (made.size, made.mode) == (photo.size, "RGB")


@pytest.mark.parametrize("damage", [d for d in Damage if d not in {Damage.NOISE, Damage.JPEG}])
def test_damage_looks_the_same_at_any_size(damage: Damage, picture: Image.Image) -> None:
    sizes = (picture, picture.resize((1152, 1152), Image.Resampling.BICUBIC))
    seen = [loss(photo, degrade(np.random.default_rng(0), photo, damage, 3)) for photo in sizes]
    assert abs(seen[0] - seen[1]) < 1.5


@pytest.mark.parametrize("damage", [Damage.NOISE, Damage.JPEG])
def test_damage_of_single_pixels_is_seen_in_a_large_photo_too(damage: Damage, picture: Image.Image) -> None:
    large = picture.resize((1536, 1536), Image.Resampling.BICUBIC)
    assert loss(large, degrade(np.random.default_rng(0), large, damage, 3), 224) < 36


def test_more_brands_than_the_demos_are_other_companies_than_the_look_alikes() -> None:
    names = brand_names(100)
    assert names[:10] == BRANDS
    assert len(set(names)) == 100
    assert not set(names) & {name for split in SPLITS for name in distractor_names(split)}
    with pytest.raises(ValueError, match="the icon set has marks for"):
        brand_names(5_000)


def test_a_batch_of_many_brands_is_labelled_with_all_of_them(bank: torch.Tensor) -> None:
    marks = brand_logos(20)
    many = BrandComposer(bank, marks, marks)
    labels = many.batch(np.random.default_rng(0), 80).labels
    assert set(labels.tolist()) == {*range(20), 20}


def test_a_damaged_copy_of_a_rated_photo_is_rated_lower_the_worse_its_damage() -> None:
    photo = Photo(id="a", uri="a.jpg", source="list", rating=4.0, votes=(0, 0, 0, 1, 0), split="train", group="owner")
    copies = list(_copies([photo], CopiedSource(damaged=200), np.random.default_rng(1)))
    assert len({copy.id for copy in copies}) == 200
    assert 10 < sum(copy.rating == 4 for copy in copies) < 45  # undamaged
    assert {(copy.group, copy.votes, copy.split) for copy in copies} == {("owner", None, "train")}
    worst_first = sorted(copies, key=lambda copy: copy.damage[1] if copy.damage else 0, reverse=True)
    lowered = [copy.rating or 0 for copy in worst_first]
    assert lowered == sorted(lowered)
    assert 1 < lowered[0] < 2
    assert lowered[-1] == 4


def test_a_share_of_rated_photos_is_shown_on_white_too_half_of_them_undamaged() -> None:
    photos = [Photo(id=f"{n}", uri="a.jpg", source="list", rating=4.0, split="train") for n in range(400)]
    source = CopiedSource(damaged=1, on_white=0.25)
    white = [copy for copy in _copies(photos, source, np.random.default_rng(2)) if copy.on_white]
    whole = [copy for copy in white if copy.damage and not copy.damage[1]]
    assert 70 < len(white) < 130
    assert 0.4 < len(whole) / len(white) < 0.75
    assert {copy.rating for copy in whole} == {4.0}
    assert max(copy.rating or 0 for copy in white if copy not in whole) < 4.0


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_share_of_the_damaged_copies_has_too_much_or_too_little_light(share: float) -> None:
    photo = Photo(id="a", uri="a.jpg", source="list", rating=4.0, split="train")
    source = CopiedSource(damaged=400, exposures=share, on_white=1.0)
    copies = list(_copies([photo], source, np.random.default_rng(3)))
    spoilt = [copy.metadata["damage"] for copy in copies if copy.damage and copy.damage[1]]
    exposed = sum("bright" in kinds or "dark" in kinds for kinds in spoilt) / len(spoilt)
    assert exposed == pytest.approx(share + (1 - share) * 0.3, abs=0.07)
    assert "none" in {copy.metadata["damage"] for copy in copies}  # what is not damaged stays so


@pytest.mark.parametrize("level", [20, 120, 240])
def test_overexposure_takes_a_share_of_the_pixels_of_dark_and_bright_photos_alike(level: int) -> None:
    values = np.random.default_rng(1).integers(level - 20, level + 10, (64, 64, 3)).astype(np.uint8)
    values[:8] = 255
    photo = Image.fromarray(values)
    least = 2**-3 * 255  # three stops are the most
    lost = [float((np.asarray(overexposed(photo, share)).max(2)[8:] == 255).mean()) for share in (0.1, 0.25, 0.75)]
    assert lost == pytest.approx([0.1, 0.25, 0.75] if level > least else [0, 0, 0], abs=0.12)
    assert overexposed(Image.new("RGB", (4, 4), "white"), 0.5).getpixel((0, 0)) == (255, 255, 255)
    assert overexposed(Image.new("RGB", (4, 4)), 0.5).getpixel((0, 0)) == (0, 0, 0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 300))
def test_a_packshot_keeps_the_middle_of_a_photo_on_white(seed: int, width: int) -> None:
    photo = Image.new("RGB", (width, 200), (200, 30, 40))
    made = np.asarray(on_white(np.random.default_rng(seed), photo))
    assert made.shape == (200, width, 3)
    assert (made[:2] > 200).all()
    if width > 60:
        assert tuple(made[100, width // 2]) == (200, 30, 40)


def test_every_level_of_damage_is_equally_frequent() -> None:
    base = [Photo(id=f"photo-{n}", uri="scene:train/0/0", source="made", split="train") for n in range(3)]
    ratings = [photo.rating for photo in _damaged(base, 70, 0.0, np.random.default_rng(1))]
    assert all(ratings.count(float(level)) == 14 for level in LEVELS)
