"""Composes marks onto backgrounds in batches: warp, recolour, plate, occlusion, light, blur, noise and JPEG.

Works for any square size and, inside `with torch.device(...)`, on that device with the same random numbers.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

#: Gaussian weights below exp of this are 0: denormal numbers make a product of matrices twenty times slower.
_LEAST_EXPONENT = -20.0


@dataclass(frozen=True, slots=True)
class Look:
    """How marks are placed. Sizes are shares of the photo's side, angles are in degrees, the rest are probabilities."""

    smallest: float = 1 / 6
    largest: float = 0.8
    angle: float = 35.0
    perspective: float = 0.28
    plate: float = 0.4
    occluded: float = 0.25
    faintest: float = 0.75
    #: Half the side of the square that marks stay within, as a share of half the photo's; over 1 lets edges be cut.
    reach: float = 1.05


def drawn(values: np.ndarray) -> torch.Tensor:
    """Random numbers from the CPU as a tensor on the current device."""
    return torch.from_numpy(values).to(torch.get_default_device())


def _vector(rng: np.random.Generator, low: float, high: float, count: int) -> torch.Tensor:
    return drawn(rng.uniform(low, high, count).astype(np.float32))


def _coin(rng: np.random.Generator, probability: float, count: int) -> torch.Tensor:
    return drawn(rng.random(count) < probability)


def placements(rng: np.random.Generator, count: int, look: Look) -> torch.Tensor:
    """Homographies float32 [count, 3, 3] from photo coordinates (-1..1) to mark coordinates (-1..1).

    A mark's centre is drawn such that its upright square stays within `look.reach`.
    """
    size = _vector(rng, look.smallest, look.largest, count)
    angle = torch.deg2rad(drawn(rng.normal(0, look.angle / 2, count).clip(-look.angle, look.angle))).float()
    stretch = _vector(rng, -0.15, 0.15, count).exp()
    room = (look.reach - size).clamp(min=0)
    x, y = (_vector(rng, -1, 1, count) * room for _ in range(2))
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros(count), torch.ones(count)
    shift = torch.stack((one, zero, -x, zero, one, -y, zero, zero, one), 1).view(-1, 3, 3)
    turn = torch.stack((cos, sin, zero, -sin, cos, zero, zero, zero, one), 1).view(-1, 3, 3)
    zoom = torch.stack((1 / (size * stretch), zero, zero, zero, stretch / size, zero, zero, zero, one), 1).view(
        -1, 3, 3
    )
    tilt_x, tilt_y = (_vector(rng, -look.perspective, look.perspective, count) for _ in range(2))
    tilt = torch.stack((one, zero, zero, zero, one, zero, tilt_x, tilt_y, one), 1).view(-1, 3, 3)
    return tilt @ zoom @ turn @ shift


def sizes(homographies: torch.Tensor) -> torch.Tensor:
    """Sides of marks as shares of the photo's side, before the perspective: float32 [N]."""
    areas: torch.Tensor = torch.linalg.det(homographies[:, :2, :2])
    return areas.abs().rsqrt()


def pixel_centres(size: int) -> torch.Tensor:
    """Coordinates of the pixel centres of a line, in -1..1: float32 [size]."""
    return (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1


def upright_grid(columns: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Sampling grids without rotation, from coordinates of columns and rows: [N, W] and [N, H] to [N, H, W, 2]."""
    shape = (len(columns), rows.shape[1], columns.shape[1])
    return torch.stack((columns[:, None].expand(shape), rows[:, :, None].expand(shape)), 3)


def mark_coordinates(homographies: torch.Tensor, size: int) -> torch.Tensor:
    """Mark coordinates of each pixel of a size x size photo: float32 [N, size, size, 2]; -1..1 is on the mark."""
    line = pixel_centres(size)
    x, y, one = homographies.unsqueeze(3).unbind(2)  # each [N, 3, 1]
    mapped = (x * line).unsqueeze(2) + (y * line + one).unsqueeze(3)
    depth = mapped[:, 2:].clamp(min=0.2)  # the horizon of a steep tilt lies far outside the mark
    return (mapped[:, :2] / depth).permute(0, 2, 3, 1)


def _coverage(masks: torch.Tensor, homographies: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Share of each pixel that ink covers: float32 [N, 1, S, S].

    Each mark is sampled from a copy about as fine as the photo shows it, or thin ink of small marks would alias.
    """
    across = sizes(homographies) * grid.shape[1]  # px
    halvings = (masks.shape[-1] / across).log2().round().clamp(min=0).long()
    made = torch.empty((*grid.shape[:3], 1)).permute(0, 3, 1, 2)
    for halved in sorted(set(halvings.tolist())):
        which = (halvings == halved).nonzero().flatten()
        finer = functional.avg_pool2d(masks[which].float() / 255, 2**halved)
        made[which] = functional.grid_sample(finer, grid[which], align_corners=False)
    return made


def _occlusion(rng: np.random.Generator, grid: torch.Tensor, probability: float) -> torch.Tensor:
    """1 where the mark is visible, 0 where an occlusion covers an edge of it (at most about a third)."""
    count = grid.shape[0]
    angle, edge = _vector(rng, 0, 2 * np.pi, count), _vector(rng, 0.35, 0.9, count)
    normal = torch.stack((angle.cos(), angle.sin()), 1).view(-1, 1, 1, 2)
    covered = ((grid * normal).sum(-1) > edge.view(-1, 1, 1)) & _coin(rng, probability, count).view(-1, 1, 1)
    return (~covered).float()


def _plates(rng: np.random.Generator, grid: torch.Tensor, probability: float) -> torch.Tensor:
    """1 inside a mark's plate: a super-ellipse in mark coordinates, from disc to square; 0 for marks without one."""
    count, size = grid.shape[:2]
    plates = torch.zeros(count, size, size)
    chosen = _coin(rng, probability, count).nonzero().flatten()
    power, reach = (_vector(rng, low, high, len(chosen)).view(-1, 1, 1, 1) for low, high in ((2, 9), (0.95, 1.35)))
    radius = (grid[chosen].abs() / reach).clamp(max=4).pow(power).sum(-1)
    plates[chosen] = ((1 - radius) * size / 16 + 0.5).clamp(0, 1)
    return plates


def _luminance(colour: torch.Tensor) -> torch.Tensor:
    return colour @ torch.tensor([0.299, 0.587, 0.114])


def _ink(rng: np.random.Generator, own: torch.Tensor, behind: torch.Tensor) -> torch.Tensor:
    """Colours [N, 3] for marks: their own, black, white or random; black or white if the contrast is too low."""
    count = own.shape[0]
    pick = drawn(rng.choice(4, count, p=[0.4, 0.2, 0.2, 0.2])).unsqueeze(1)
    anything = drawn(rng.random((count, 3), np.float32))
    black, white = torch.full_like(own, 0.06), torch.full_like(own, 0.95)
    colour = torch.where(pick == 0, own, torch.where(pick == 1, black, torch.where(pick == 2, white, anything)))
    contrast = (_luminance(colour) - _luminance(behind)).abs() + 0.4 * (colour - behind).abs().amax(1)
    safe = torch.where((_luminance(behind) > 0.5).unsqueeze(1), black, white)
    return torch.where((contrast < 0.4).unsqueeze(1), safe, colour)


def paste(
    rng: np.random.Generator, photos: torch.Tensor, masks: torch.Tensor, own_colours: torch.Tensor, look: Look
) -> torch.Tensor:
    """Photos with one mark each, where `placements` puts them; see `paste_at`."""
    return paste_at(rng, photos, masks, own_colours, look, placements(rng, len(photos), look))


def paste_at(  # noqa: PLR0917 - what a photo with a mark consists of
    rng: np.random.Generator,
    photos: torch.Tensor,
    masks: torch.Tensor,
    own_colours: torch.Tensor,
    look: Look,
    homographies: torch.Tensor,
) -> torch.Tensor:
    """Photos with one mark each.

    Args:
        rng: The source of all random numbers.
        photos: float32 [N, 3, S, S] in 0..1.
        masks: uint8 [N, 1, M, M], coverage of the marks.
        own_colours: float32 [N, 3] in 0..1, the colour that each mark's owner uses.
        look: Probabilities of plates and occlusion, and the faintest ink.
        homographies: As of `placements`.

    Returns:
        float32 [N, 3, S, S] in 0..1.
    """
    count, size = photos.shape[0], photos.shape[-1]
    grid = mark_coordinates(homographies, size)
    shown = _occlusion(rng, grid, look.occluded).unsqueeze(1)
    inside = _plates(rng, grid, look.plate).unsqueeze(1) * shown
    ink_share = _coverage(masks, homographies, grid) * shown

    plate_colour = drawn(rng.random((count, 3), np.float32))
    plain = _coin(rng, 0.5, count).unsqueeze(1)
    plate_colour = torch.where(plain, _coin(rng, 0.6, count).float().unsqueeze(1) * 0.9 + 0.05, plate_colour)
    weight = ink_share + 1e-4
    around = (photos * weight).sum((2, 3)) / weight.sum((2, 3))
    has_plate = (inside.amax((1, 2, 3)) > 0).unsqueeze(1)
    behind = torch.where(has_plate, plate_colour, around)
    ink = _ink(rng, own_colours, behind)

    shade = blur(photos.mean(1, keepdim=True), size / 24)
    shade = 1 + (shade - shade.mean((2, 3), keepdim=True)) * _vector(rng, 0, 0.7, count).view(-1, 1, 1, 1)
    strength = _vector(rng, look.faintest, 1.0, count).view(-1, 1, 1, 1)
    result = photos.lerp(plate_colour[:, :, None, None] * shade, inside * strength)
    return result.lerp(ink[:, :, None, None] * shade, ink_share * strength).clamp(0, 1)


def cover(
    rng: np.random.Generator, photos: torch.Tensor, masks: torch.Tensor, fillings: torch.Tensor, look: Look
) -> torch.Tensor:
    """Photos float32 [N, 3, S, S], each with a shape cut from another photo: objects that are not logos."""
    grid = mark_coordinates(placements(rng, len(photos), look), photos.shape[-1])
    return photos.lerp(fillings, functional.grid_sample(masks.float() / 255, grid, align_corners=False))


def views(rng: np.random.Generator, canvases: torch.Tensor, size: int) -> torch.Tensor:
    """Random square windows of canvases, mirrored half the time: uint8 [N, 3, C, C] to float32 [N, 3, size, size]."""
    count = canvases.shape[0]
    scale = _vector(rng, 0.55, 1.0, count)
    x, y = (_vector(rng, -1, 1, count) * (1 - scale) for _ in range(2))
    mirror = torch.where(_coin(rng, 0.5, count), -1.0, 1.0)
    line = pixel_centres(size)
    columns, rows = (scale * mirror)[:, None] * line + x[:, None], scale[:, None] * line + y[:, None]
    grid = upright_grid(columns, rows)
    return (
        functional.grid_sample(canvases.float(), grid, padding_mode="border", align_corners=False)
        .div_(255)
        .clamp_(0, 1)
    )


def _blur_matrix(size: int, sigma: float) -> torch.Tensor:
    line = torch.arange(size, dtype=torch.float32)
    exponents = -((line[:, None] - line) ** 2) / (2 * sigma**2)
    weights = exponents.exp() * (exponents > _LEAST_EXPONENT)
    return weights / weights.sum(1, keepdim=True)


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of [..., H, W] by `sigma` px, as two matrix products: on a CPU faster than a convolution."""
    height, width = images.shape[-2:]
    return _blur_matrix(height, sigma) @ images @ _blur_matrix(width, sigma).T


def jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    """One image float32 [3, H, W] in 0..1 after a JPEG round trip at `quality` 1..100."""
    stream = io.BytesIO()
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    with Image.open(stream, formats=("JPEG",)) as lossy:
        return torch.from_numpy(np.array(lossy, np.float32).transpose(2, 0, 1)).to(image.device) / 255


def camera(rng: np.random.Generator, photos: torch.Tensor) -> torch.Tensor:
    """What a camera and an upload do to photos [N, 3, S, S]: colour cast, exposure, some blur, noise and JPEG."""
    count = photos.shape[0]
    gain = drawn(rng.normal(1, 0.08, (count, 3, 1, 1)).astype(np.float32))
    gamma = _vector(rng, -0.45, 0.45, count).exp().view(-1, 1, 1, 1)
    grey = (_coin(rng, 0.06, count)).view(-1, 1, 1, 1)
    photos = (photos.clamp(1e-4, 1) ** gamma * gain).clamp(0, 1)
    photos = torch.where(grey, photos.mean(1, keepdim=True), photos)
    blurred = rng.permutation(count)[: count // 3]
    if blurred.size:
        photos[blurred] = blur(photos[blurred], float(rng.uniform(0.3, 1.3)))
    noise = drawn(rng.standard_normal(photos.shape, np.float32))
    photos = photos + noise * (_vector(rng, -0.03, 0.06, count).clamp(min=0)).view(-1, 1, 1, 1)
    photos = photos.clamp(0, 1)
    for index in rng.permutation(count)[: count // 4]:
        photos[index] = jpeg(photos[index], int(rng.integers(35, 96)))
    return photos
