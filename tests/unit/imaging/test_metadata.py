"""Faults in what is not needed to see a photo do not refuse it and change no pixel; what decides the pixels is kept."""

import struct
import zlib
from typing import Final

import numpy as np
import pytest
from PIL import Image, ImageCms

from consumer.contract import Geometry
from consumer.errors import PhotoRejected
from consumer.events import Pixels
from consumer.imaging.decode import NeedsMemory, decode
from consumer.imaging.limits import PrepareLimits
from consumer.imaging.metadata import avif_picture, gif_picture, jpeg_picture, png_picture, webp_picture
from tests.hostile_parts import (
    IEND,
    chunk,
    exif,
    frame,
    ihdr,
    inserted,
    jpeg,
    png,
    riff,
    scan,
    segment,
    sub_blocks,
    vp8x,
)
from tests.unit.photos import difference, encoded, photo, to_pixels

GEOMETRY: Final = Geometry(input_size=64, resize_short_side=64)
LIMITS: Final = PrepareLimits()
IMAGE: Final = photo(96, 80)
WHITE: Final = [255, 255, 255]
MB: Final = 1_000_000
SIDEWAYS: Final = exif((0x0112, 3, 1, b"\6\0\0\0"))
XMP: Final = b'<x:xmpmeta tiff:Orientation="6"/>'


def pixels(body: bytes, limits: PrepareLimits = LIMITS) -> Pixels:
    return to_pixels(body, GEOMETRY, limits)


def damaged(part: bytes) -> bytes:
    """A chunk with a wrong checksum."""
    return part[:-1] + bytes([part[-1] ^ 1])


def text(kind: bytes, size: int = 2 * MB, key: bytes = b"Comment") -> bytes:
    names = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0", b"iCCP": b"\0\0"}
    return chunk(kind, key + names[kind] + zlib.compress(bytes(size)))


class TestPng:
    BODY = encoded(IMAGE, "PNG")
    AT = 8 + 25
    FAULTS: Final = {
        "wrong checksum of a text": damaged(chunk(b"tEXt", b"a\0b")),
        "wrong checksum of a time": damaged(chunk(b"tIME", bytes(7))),
        "wrong checksum of Exif": damaged(chunk(b"eXIf", SIDEWAYS)),
        "wrong checksum of a private chunk": damaged(chunk(b"prVt", b"a")),
        "text of 2 MB inflated": text(b"zTXt"),
        "international text of 2 MB inflated": text(b"iTXt"),
        "XMP of 2 MB inflated": text(b"iTXt", key=b"XML:com.adobe.xmp"),
        "ImageMagick's Exif of 2 MB inflated": text(b"zTXt", key=b"Raw profile type exif"),
        "profile of 2 MB inflated": text(b"iCCP"),
        "profile that does not inflate": chunk(b"iCCP", b"a\0\0nonsense"),
        "profile without anything": chunk(b"iCCP", b""),
        "text of an unknown compression": chunk(b"zTXt", b"a\0\7b"),
        "Exif without a TIFF header": chunk(b"eXIf", b"nonsense"),
        "a palette that RGB does not need": damaged(chunk(b"PLTE", bytes(3))),
        "transparency of a wrong length": chunk(b"tRNS", bytes(5)),
        "empty transparency": chunk(b"tRNS", b""),
        "transparency of a wrong checksum": damaged(chunk(b"tRNS", bytes(6))),
        "frame control out of order": chunk(b"fcTL", struct.pack(">IIIIIHHBB", 7, 9999, 9999, 0, 0, 0, 0, 9, 9)),
        "animation and its frame data": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fdAT", b"\0"),
    }
    SHORT: Final = (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"bKGD", b"hIST", b"sBIT", b"sPLT", b"tIME", b"cICP", b"mDCV",
                    b"cLLI", b"oFFs", b"sCAL", b"sTER", b"acTL", b"fcTL", b"fdAT", b"iTXt", b"zTXt", b"tEXt", b"iCCP",
                    b"eXIf", b"prVt")  # fmt: skip

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_in_an_ancillary_chunk_is_dropped_before_and_behind_the_image(self, fault: str) -> None:
        part = self.FAULTS[fault]
        for body in (self.BODY[: self.AT] + part + self.BODY[self.AT :], self.BODY[:-12] + part + self.BODY[-12:]):
            assert np.array_equal(pixels(body), pixels(self.BODY))

    @pytest.mark.parametrize("kind", SHORT)
    def test_an_ancillary_chunk_of_any_length_is_dropped(self, kind: bytes) -> None:
        for length in (0, 1, 3, 5, 9):
            body = self.BODY[: self.AT] + chunk(kind, b"\xff" * length) + self.BODY[self.AT :]
            assert np.array_equal(pixels(body), pixels(self.BODY)), length

    def test_an_ancillary_chunk_between_those_of_the_image_or_cut_at_the_end_is_dropped(self) -> None:
        data = self.BODY[self.AT + 8 : -16]
        image = chunk(b"IDAT", data[:500]) + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", data[500:])
        body = self.BODY[: self.AT] + image
        assert np.array_equal(pixels(body + IEND), pixels(self.BODY))
        assert np.array_equal(pixels(body + chunk(b"tEXt", bytes(100))[:50]), pixels(self.BODY))

    def test_a_moving_one_with_a_broken_second_frame_is_a_still_one(self) -> None:
        moving = encoded(IMAGE, "PNG", save_all=True, append_images=[photo(96, 80, seed=2)])
        at = moving.rindex(b"fcTL")
        assert np.array_equal(pixels(moving[: at + 4] + b"\xff" * 26 + moving[at + 30 :]), pixels(self.BODY))

    @pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
    def test_a_fault_in_a_critical_chunk_refuses(self, kind: bytes) -> None:
        body = bytearray(encoded(IMAGE.quantize(32), "PNG"))
        body[body.index(kind) + 5] ^= 1
        with pytest.raises(PhotoRejected) as caught:
            pixels(bytes(body))
        assert caught.value.reason == "corrupt_image"

    @pytest.mark.parametrize(
        "palette", [b"", chunk(b"PLTE", b""), chunk(b"PLTE", bytes(10)), chunk(b"tEXt", b"PLTE")], ids=repr
    )
    def test_colours_of_a_palette_that_is_missing_or_broken_are_refused_as_in_browsers(self, palette: bytes) -> None:
        rows = chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
        with pytest.raises(PhotoRejected, match="palette") as caught:
            pixels(png(ihdr(64, 64, 8, 3), palette, rows, chunk(b"PLTE", bytes(3)), IEND))
        assert caught.value.reason == "corrupt_image"

    def test_sound_transparency_stays_and_unsound_is_ignored_as_in_browsers(self) -> None:
        def red(*parts: bytes) -> list[int]:
            rows = zlib.compress((b"\0" + b"\1" * 64) * 64)
            palette = chunk(b"PLTE", bytes(3) + b"\xff\0\0")
            return list(pixels(png(ihdr(64, 64, 8, 3), palette, *parts, chunk(b"IDAT", rows), IEND))[0, 0])

        clear = chunk(b"tRNS", b"\xff\0")
        assert red() == [255, 0, 0]
        assert red(clear) == WHITE
        assert red(chunk(b"tEXt", b""), clear, damaged(clear)) == WHITE
        assert red(damaged(clear)) == red(chunk(b"tRNS", bytes(3))) == red(chunk(b"tRNS", b"")) == [255, 0, 0]
        assert red(damaged(clear), clear) == WHITE

    @pytest.mark.parametrize(("bits", "byte", "shade"), [(1, 0x00, 0), (2, 0x55, 85), (4, 0x77, 119), (8, 0x77, 119)])
    def test_a_shade_of_grey_is_transparent_whatever_its_depth(self, bits: int, byte: int, shade: int) -> None:
        def grey(*parts: bytes) -> list[int]:
            rows = chunk(b"IDAT", zlib.compress((b"\0" + bytes([byte]) * (8 * bits)) * 64))
            return list(pixels(png(ihdr(64, 64, bits, 0), *parts, rows, IEND))[0, 0])

        value = byte & (1 << bits) - 1
        assert grey() == grey(chunk(b"tRNS", (value + 1).to_bytes(2))) == [shade] * 3
        assert grey(chunk(b"tRNS", value.to_bytes(2))) == WHITE

    @pytest.mark.parametrize(
        "part",
        [
            chunk(b"eXIf", SIDEWAYS),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0name\0" + zlib.compress(XMP)),
            chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n1\n" + SIDEWAYS.hex().encode())),
        ],
    )
    def test_a_sound_orientation_stays(self, part: bytes) -> None:
        body = self.BODY[: self.AT] + chunk(b"iTXt", b"other") + part + self.BODY[self.AT :]
        assert difference(pixels(body), np.rot90(pixels(self.BODY), -1)) <= 0.5

    def test_a_sound_profile_stays(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        body = encoded(IMAGE, "PNG", icc_profile=profile, dpi=(72, 72))
        assert zlib.compress(profile)[:8] in png_picture(body)
        assert b"pHYs" not in png_picture(body)

    def test_a_lean_one_is_not_copied(self) -> None:
        assert png_picture(self.BODY) is self.BODY


class TestJpeg:
    BODY = encoded(IMAGE, "JPEG", quality=90)
    STARTS: Final = (
        *((0xE0 + number, b"") for number in range(16)),
        (0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        (0xE0, b"JFXX\0\x10\xff\xd8\xff"),
        (0xE1, b"Exif\0\0" + SIDEWAYS[:8]),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"),
        (0xE2, b"ICC_PROFILE\0\1\2abc"),
        (0xE2, b"MPF\0II*\0\x08\0\0\0\1\0"),
        (0xE2, b"FPXR\0\1"),
        (0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\x10\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (0xED, b"Photoshop 3.0\x008BIM\4\4\7" + bytes(40)),
        (0xEE, b"Adobe\0\x64\0\0\0\0"),
        (0xFE, b"comment"),
    )

    @pytest.mark.parametrize(("code", "payload"), STARTS)
    def test_an_application_segment_cut_anywhere_changes_nothing(self, code: int, payload: bytes) -> None:
        for length in range(len(payload) + 1):
            body = inserted(self.BODY, segment(code, payload[:length]))
            assert np.array_equal(pixels(body), pixels(self.BODY)), length

    def test_what_decides_the_colours_stays(self) -> None:
        adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")
        kept = jpeg_picture(inserted(self.BODY, segment(0xED, b"Photoshop 3.0\0"), adobe))
        assert kept == inserted(self.BODY, adobe)

    def test_one_without_faults_is_not_copied(self) -> None:
        assert jpeg_picture(self.BODY) is self.BODY


class TestEnd:
    """A JPEG without its end marker."""

    @pytest.mark.parametrize("size", [(96, 80), (641, 483), (1100, 1030)])
    @pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_blocks": 4}])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_a_last_few_bytes_may_be_missing_if_the_last_block_is_there(
        self, size: tuple[int, int], options: dict[str, int], mode: str
    ) -> None:
        body = encoded(photo(*size).convert(mode), "JPEG", quality=90, **options)
        for missing in (1, 2, 3):
            assert difference(pixels(body[:-missing]), pixels(body)) <= 0.5
        for missing in (300, len(body) // 2):
            with pytest.raises(PhotoRejected) as caught:
                pixels(body[:-missing])
            assert caught.value.reason == "corrupt_image"

    def test_its_limits_hold_also_where_the_end_marker_completes_its_header(self) -> None:
        bomb = jpeg(frame(0xC0, 30_000, 30_000), scan([1, 2, 3], 0, 63))[:-2]
        for missing in range(8):
            with pytest.raises(PhotoRejected) as caught:
                pixels(bomb[: len(bomb) - missing])
            assert caught.value.reason in {"too_many_pixels", "corrupt_image"}

    def test_it_needs_no_more_memory_than_was_promised(self) -> None:
        body = encoded(photo(1100, 1030), "JPEG")[:-2]
        with pytest.raises(NeedsMemory) as needed:
            decode(body, [GEOMETRY], LIMITS, memory_bytes=0)
        assert decode(body, [GEOMETRY], LIMITS, needed.value.memory_bytes).views.keys() == {GEOMETRY}

    @pytest.mark.parametrize("exact", [False, True])
    def test_a_progressive_one_is_refused_since_what_is_missing_is_not_seen(self, exact: bool) -> None:
        body = encoded(IMAGE, "JPEG", progressive=True)
        with pytest.raises(PhotoRejected, match="ends early") as caught:
            pixels(body[:-2], PrepareLimits(exact=exact))
        assert caught.value.reason == "corrupt_image"


class TestWebp:
    STILL = encoded(IMAGE, "WEBP", lossless=True)
    PICTURE = (STILL[12:16], STILL[20:])
    EXIF = (b"EXIF", SIDEWAYS)
    FAULTS: Final = {
        "chunks that are announced and missing": riff(vp8x(96, 80, 0x2C), PICTURE),
        "metadata cut at the end": riff(vp8x(96, 80, 8), PICTURE, (b"EXIF", bytes(500)))[:-300],
        "its padding missing": riff(vp8x(96, 80, 4), PICTURE, (b"XMP ", b"abc"))[:-1],
        "an unknown chunk before the picture": riff((b"abcd", b"1"), PICTURE),
        "an unknown chunk cut behind it": riff(PICTURE, (b"abcd", bytes(100)))[:-50],
        "two profiles of nonsense": riff(vp8x(96, 80, 0x20), (b"ICCP", b"x"), (b"ICCP", b"y"), PICTURE),
        "a second picture": riff(
            vp8x(96, 80), PICTURE, (b"VP8L", encoded(photo(96, 80, 2), "WEBP", lossless=True)[20:])
        ),
        "a second picture of the other kind": riff(
            vp8x(96, 80), PICTURE, (b"VP8 ", encoded(photo(96, 80, 2), "WEBP")[20:])
        ),
        "flags of the future": riff(vp8x(96, 80, 0xC1), PICTURE),
        "a length beyond the end": riff(PICTURE, size=MB),
        "a length before the end": riff(vp8x(96, 80), PICTURE, size=99),
    }

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_beside_the_picture_changes_nothing(self, fault: str) -> None:
        assert np.array_equal(pixels(self.FAULTS[fault]), pixels(self.STILL))

    def test_a_sound_orientation_stays(self) -> None:
        body = riff(vp8x(96, 80, 8), self.PICTURE, (b"abcd", b""), self.EXIF)
        assert difference(pixels(body), np.rot90(pixels(self.STILL), -1)) <= 0.5

    def test_a_cut_picture_is_refused(self) -> None:
        for body in (self.STILL, riff(vp8x(96, 80), self.PICTURE)):
            with pytest.raises(PhotoRejected):
                pixels(body[:-100])
            assert b"VP8L" not in webp_picture(body[:-100])


class TestCanvas:
    """What the first frame of an animation leaves free."""

    @staticmethod
    def frame(left: int, top: int, colour: tuple[int, int, int], flags: int) -> tuple[bytes, bytes]:
        still = encoded(Image.new("RGB", (32, 32), colour), "WEBP", lossless=True)
        numbers = (left // 2, top // 2, 31, 31, 100)
        return b"ANMF", b"".join(number.to_bytes(3, "little") for number in numbers) + bytes([flags]) + still[12:]

    @pytest.mark.parametrize("flags", [0, 1, 2, 3])
    @pytest.mark.parametrize("exact", [False, True])
    def test_of_a_webp_it_is_white(self, flags: int, exact: bool) -> None:
        black = (b"ANIM", b"\0\0\0\xff\0\0")
        body = riff(vp8x(64, 64, 2), black, self.frame(0, 0, (9, 99, 9), flags), self.frame(32, 32, (1, 1, 1), flags))
        seen = pixels(body, PrepareLimits(exact=exact))
        assert seen[:31, :31].reshape(-1, 3).tolist() == [[9, 99, 9]] * 31 * 31
        assert seen[33:].min() == seen[:, 33:].min() == 255

    @pytest.mark.parametrize("exact", [False, True])
    @pytest.mark.parametrize("palette", [b"\x09\x63\x09\xff\0\0", b"\0\0\0\1\1\1"])
    def test_of_a_gif_it_is_white(self, exact: bool, palette: bytes) -> None:
        still = Image.new("P", (32, 32))
        still.putpalette(palette)
        body = bytearray(encoded(still, "GIF"))
        body[6:10] = struct.pack("<HH", 64, 64)
        place = body.index(b",") + 1
        body[place : place + 4] = struct.pack("<HH", 16, 32)
        seen = pixels(bytes(body), PrepareLimits(exact=exact))
        assert seen[33:, 17:47].reshape(-1, 3).tolist() == [list(palette[:3])] * 31 * 30
        assert seen[:31].min() == seen[:, :15].min() == seen[:, 49:].min() == 255


class TestGif:
    BODY = encoded(IMAGE.quantize(32), "GIF")
    AT = BODY.index(b",", 13 + 3 * 32)
    EXTENSIONS: Final = {
        "empty control": b"!\xf9\0",
        "short control": b"!\xf9\3\1\0\0\0",
        "long control": b"!\xf9\6" + bytes(6) + b"\0",
        "comment": b"!\xfe" + sub_blocks(b"hello" * 200),
        "short application": b"!\xff\3NET\0",
        "short loop": b"!\xff\x0bNETSCAPE2.0\1\1\0",
        "plain text": b"!\1\x0c" + bytes(12) + b"\0",
        "short plain text": b"!\1\1\0\0",
        "unknown": b"!\x99\0",
    }

    @pytest.mark.parametrize("name", EXTENSIONS)
    def test_an_extension_before_the_frame_changes_nothing(self, name: str) -> None:
        body = self.BODY[: self.AT] + self.EXTENSIONS[name] * 2 + self.BODY[self.AT :]
        assert np.array_equal(pixels(body), pixels(self.BODY))

    def test_sound_transparency_stays(self) -> None:
        one = Image.new("P", (64, 64), 1)
        one.putpalette([0, 0, 0, 10, 20, 30])
        clear = encoded(one, "GIF", transparency=1)
        at = clear.index(b"!\xf9")
        assert pixels(clear[:at] + b"!\xfe\1a\0" + clear[at:]).min() == 255
        assert gif_picture(clear) is clear

    def test_a_flood_of_blocks_is_refused(self) -> None:
        with pytest.raises(PhotoRejected, match="more than 100000 blocks"):
            pixels(self.BODY[: self.AT] + b"!\xfe" + sub_blocks(bytes(200_000), 1) + self.BODY[self.AT :])


class TestAvif:
    BODY = encoded(IMAGE, "AVIF", speed=10)
    TURNED = encoded(IMAGE, "AVIF", speed=10, exif=SIDEWAYS)

    def test_it_is_turned_by_its_boxes_alone(self) -> None:
        assert np.array_equal(pixels(self.TURNED), np.rot90(pixels(self.BODY), -1))
        for body in (self.BODY, self.TURNED):
            stale = encoded(IMAGE, "AVIF", speed=10, xmp=b'<x tiff:Orientation="3"/>')
            assert np.array_equal(pixels(stale), pixels(self.BODY))
            assert avif_picture(body) == body

    def test_exif_in_it_is_ignored_with_or_without_a_tiff_header(self) -> None:
        camera = exif((0x010F, 2, 4, b"abc\0"), (0x0112, 3, 1, b"\6\0\0\0"))
        body = encoded(IMAGE, "AVIF", speed=10, exif=camera)
        stored = body[body.index(b"II*\0") :][:8]
        assert np.array_equal(pixels(body), pixels(self.TURNED))
        other = encoded(IMAGE, "AVIF", speed=10, exif=exif((0x0113, 3, 1, b"\6\0\0\0")))
        assert np.array_equal(pixels(other.replace(b"\x13\1\3\0", b"\x12\1\3\0")), pixels(self.BODY))
        assert np.array_equal(pixels(body.replace(stored, b"nonsense")), pixels(self.TURNED))
