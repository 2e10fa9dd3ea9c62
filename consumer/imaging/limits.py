"""The limits on a photo, the facts of its header, and the check of one against the other. Pure."""

from dataclasses import dataclass
from typing import Final, Literal

from consumer.errors import PermanentReason
from consumer.imaging.cost import Cost

#: An embedded RGB or grey profile is ignored, as in training, or converted to sRGB.
IccRule = Literal["ignore", "srgb"]

#: libjpeg writes 10 scans of a colour photo and at most 18; a photo of so few takes long for its size, not its scans.
_USUAL_SCANS: Final = 18


@dataclass(frozen=True, slots=True)
class PrepareLimits:
    """Limits beyond which a photo is rejected before it is decoded, and the options that decide its pixels."""

    max_pixels: int = 51_000_000
    max_side: int = 30_000
    min_side: int = 16
    max_scans: int = 100
    max_decode_bytes: int = 800 * 1024 * 1024
    max_decode_cpu_s: float = 1.6
    #: Bit for bit the pixels of training: JPEG is decoded at full scale.
    exact: bool = False
    icc: IccRule = "ignore"
    #: HEIC is read; needs the extra `heic`.
    heic: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a photo's header, read before anything is decoded."""

    format: str
    width: int
    height: int
    #: The decoder's name of the stored colours, such as `RGB`, `CMYK`, `I;16` or `P`.
    mode: str
    #: The decoder gives 1/`scale` of each side: 1, 2, 4 or 8 for a JPEG, 1 for all others.
    scale: int
    #: Scans of a JPEG that is decoded in several passes, else 1; counted up to one more than is allowed.
    scans: int
    #: Peak memory and CPU time of the decode, at the worst.
    cost: Cost


@dataclass(frozen=True, slots=True)
class Check:
    """One limit, this photo's value, and the reason of the rejection if the value is beyond it."""

    setting: str
    value: float
    limit: float
    reason: PermanentReason

    @property
    def holds(self) -> bool:
        """Whether the limit allows the photo."""
        return self.value >= self.limit if self.setting == "min_side" else self.value <= self.limit

    def __str__(self) -> str:
        return f"prepare.{self.setting} is {self.limit:.12g}, this photo has {self.value:.12g}"


def checks(header: Header, limits: PrepareLimits) -> tuple[Check, ...]:
    """Every limit on a photo, in the order in which they are applied."""
    width, height, scans, cost = header.width, header.height, header.scans, header.cost
    too_slow: PermanentReason = "too_many_scans" if scans > _USUAL_SCANS else "too_many_pixels"
    return (
        Check("max_pixels", width * height, limits.max_pixels, "too_many_pixels"),
        Check("max_side", max(width, height), limits.max_side, "too_many_pixels"),
        Check("min_side", min(width, height), limits.min_side, "image_too_small"),
        Check("max_scans", scans, limits.max_scans, "too_many_scans"),
        Check("max_decode_bytes", cost.memory_bytes, limits.max_decode_bytes, "too_many_pixels"),
        Check("max_decode_cpu_s", round(cost.cpu_s, 3), limits.max_decode_cpu_s, too_slow),
    )
