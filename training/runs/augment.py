"""Augmentation of training batches; all random numbers come from the given generator."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.compose import blur
from training.recipes.recipe import Augment

#: Tiles per side of a scrambled photo: small enough that no mark fits in one.
_TILES = 8
#: Shares of red, green and blue in the grey that uploads are turned to (ITU-R BT.601).
_LUMA = torch.tensor((0.299, 0.587, 0.114)).view(3, 1, 1)


def _vector(rng: np.random.Generator, low: float, high: float, count: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, count).astype(np.float32))


def _some(rng: np.random.Generator, share: float, count: int) -> Tensor:
    return torch.from_numpy(np.flatnonzero(rng.random(count) < share))


def views(rng: np.random.Generator, stored: Tensor, augment: Augment, px: int) -> Tensor:
    """Random crops of stored squares: uint8 [N, 3, C, C] to float32 [N, 3, px, px] in 0..1."""
    count = len(stored)
    if augment.least_zoom >= 1 and augment.turn_deg == 0 and augment.aspect == 0 and stored.shape[-1] == px:
        photos = stored.float() / 255
        return torch.where(_mirrored(rng, augment, count), photos.flip(3), photos)
    if augment.turn_deg == 0 and augment.aspect == 0:
        photos = _cuts(rng, stored, augment.least_zoom, px)
        return torch.where(_mirrored(rng, augment, count), photos.flip(3), photos)
    zoom = _vector(rng, augment.least_zoom, 1.0, count)
    stretch = _vector(rng, -augment.aspect, augment.aspect, count).exp().sqrt()
    wide, tall = (zoom * stretch).clamp(max=1), (zoom / stretch).clamp(max=1)
    x, y = (_vector(rng, -1, 1, count) * (1 - side) for side in (wide, tall))
    turn = torch.deg2rad(_vector(rng, -augment.turn_deg, augment.turn_deg, count))
    sign = torch.where(_mirrored(rng, augment, count).view(-1), -1.0, 1.0)
    cos, sin = turn.cos(), turn.sin()
    theta = torch.stack((wide * cos * sign, -tall * sin, x, wide * sin * sign, tall * cos, y), 1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, [count, 3, px, px], align_corners=False)
    seen = functional.grid_sample(stored.float(), grid, padding_mode="reflection", align_corners=False)
    return seen.div_(255).clamp_(0, 1)


def _cuts(rng: np.random.Generator, stored: Tensor, least_zoom: float, px: int) -> Tensor:
    """Squares of random place and size, resized as the service does, so that grain and sharpness stay what they are."""
    whole, made = stored.shape[-1], torch.empty((len(stored), 3, px, px))
    for index, photo in enumerate(stored):
        side = max(1, round(whole * float(rng.uniform(least_zoom, 1))))
        top, left = (int(rng.integers(whole - side + 1)) for _ in range(2))
        cut = photo[None, :, top : top + side, left : left + side]
        made[index] = functional.interpolate(cut, (px, px), mode="bilinear", antialias=True)[0]
    return made / 255


def _mirrored(rng: np.random.Generator, augment: Augment, count: int) -> Tensor:
    return torch.from_numpy(rng.random(count) < (0.5 if augment.flip else 0.0)).view(-1, 1, 1, 1)


def recoloured(rng: np.random.Generator, photos: Tensor, augment: Augment) -> Tensor:
    """Random brightness, contrast, saturation and white balance, and some in grey: float32 [N, 3, S, S] in 0..1."""
    count = len(photos)
    if augment.light:
        gain, contrast = (_vector(rng, -augment.light, augment.light, count).exp().view(-1, 1, 1, 1) for _ in range(2))
        middle = photos.mean((1, 2, 3), keepdim=True)
        photos = (photos - middle) * contrast + middle * gain
    if augment.colour:
        saturation = _vector(rng, -augment.colour, augment.colour, count).exp().view(-1, 1, 1, 1)
        grey = photos.mean(1, keepdim=True)
        cast = torch.from_numpy(rng.normal(1, augment.colour / 5, (count, 3, 1, 1)).astype(np.float32))
        photos = ((photos - grey) * saturation + grey) * cast
    if augment.grey:
        chosen = _some(rng, augment.grey, count)
        photos[chosen] = (photos[chosen] * _LUMA).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    return photos.clamp(0, 1)


def worn(rng: np.random.Generator, photos: Tensor, augment: Augment) -> Tensor:
    """Random blur, noise and erasing, each on its share of the photos, in place."""
    count, side = len(photos), photos.shape[-1]
    for index in _some(rng, augment.blur, count):
        photos[index] = blur(photos[index], float(rng.uniform(0.3, 1.2)) * side / 96)
    for index in _some(rng, augment.noise, count):
        noise = rng.standard_normal((3, side, side), np.float32) * float(rng.uniform(0.01, 0.06))
        photos[index] = (photos[index] + torch.from_numpy(noise)).clamp(0, 1)
    for index in _some(rng, augment.erase, count):
        height, width = (int(side * rng.uniform(0.1, 0.4)) for _ in range(2))
        top, left = int(rng.integers(side - height)), int(rng.integers(side - width))
        colour = torch.from_numpy(rng.random((3, 1, 1), np.float32))
        photos[index, :, top : top + height, left : left + width] = colour
    return photos


def scrambled(
    rng: np.random.Generator, photos: Tensor, targets: Tensor, share: float, no_logo: int
) -> tuple[Tensor, Tensor]:
    """Shuffles the tiles of a share of the brand photos and labels them `no_logo`, in place.

    It teaches the network to look at shapes: the colours and textures of a package alone are not a brand.
    """
    branded = torch.nonzero(targets[:, no_logo] < 0.5).flatten()
    for index in branded[_some(rng, share, len(branded))]:
        tile = photos.shape[-1] // _TILES
        whole = tile * _TILES
        tiles = photos[index, :, :whole, :whole].reshape(3, _TILES, tile, _TILES, tile).permute(1, 3, 0, 2, 4)
        order = torch.from_numpy(rng.permutation(_TILES * _TILES))
        mixed = tiles.reshape(-1, 3, tile, tile)[order].reshape(_TILES, _TILES, 3, tile, tile)
        photos[index, :, :whole, :whole] = mixed.permute(2, 0, 3, 1, 4).reshape(3, whole, whole)
        targets[index] = functional.one_hot(torch.tensor(no_logo), targets.shape[1]).to(targets.dtype)
    return photos, targets


def mixed(rng: np.random.Generator, photos: Tensor, targets: Tensor, augment: Augment) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix of photos and targets with the reversed batch; one of them at random if both are on."""
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(augment, kind) > 0]
    if not kinds:
        return photos, targets
    kind = kinds[int(rng.integers(len(kinds)))]
    alpha = getattr(augment, kind)
    share = float(rng.beta(alpha, alpha))
    other, other_targets = photos.flip(0), targets.flip(0)
    if kind == "mixup":
        return photos.lerp(other, 1 - share), targets.lerp(other_targets, 1 - share)
    side = photos.shape[-1]
    reach = side * (1 - share) ** 0.5 / 2
    x, y = rng.uniform(0, side, 2)
    left, right, top, bottom = (int(np.clip(edge, 0, side)) for edge in (x - reach, x + reach, y - reach, y + reach))
    cut = photos.clone()
    cut[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return cut, targets.lerp(other_targets, (right - left) * (bottom - top) / side**2)
