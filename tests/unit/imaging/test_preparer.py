import asyncio
import contextlib
import gc
import io
import threading
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from consumer.contract import Geometry
from consumer.errors import PhotoRejected
from consumer.events import Photo, Pixels
from consumer.imaging import colour, decode
from consumer.imaging import preparer as preparing
from consumer.imaging.cost import Stored
from consumer.imaging.decode import Decoded, NeedsMemory
from consumer.imaging.decode_view import TURNS
from consumer.imaging.formats import FORMATS as FORMATS_READ
from consumer.imaging.formats import sniff
from consumer.imaging.limits import Header, PrepareLimits, checks
from consumer.imaging.preparer import Explanation, Preparer, explain
from tests.harness import eventually
from tests.hostile_parts import IEND, chunk, frame, ihdr, jpeg, png, scan, segment
from tests.photo_host import files_of
from tests.unit.photos import difference, encoded, inspect, photo, to_pixels

MIB = 1024 * 1024
GEOMETRY = Geometry(input_size=224, resize_short_side=232)
LIMITS = PrepareLimits()
HOSTILE = Path(__file__).parents[4] / "shared" / "data" / "hostile"
UPLOADS = HOSTILE.parent / "uploads"
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF"]
WHITE, BLACK = 255, 0


class Watched(bytes):
    """Bytes that can be seen to go."""

    gone = 0

    def __del__(self) -> None:
        Watched.gone += 1


def pixels_of(body: bytes, limits: PrepareLimits = LIMITS) -> Pixels:
    pixels = to_pixels(body, GEOMETRY, limits)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    return pixels


def rejection(body: bytes, limits: PrepareLimits = LIMITS) -> str:
    with pytest.raises(PhotoRejected) as caught:
        to_pixels(body, GEOMETRY, limits)
    assert "object at" not in caught.value.detail
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    return png(ihdr(width, height), chunk(b"IDAT", zlib.compress(bytes(1000))), IEND)


def with_scans(body: bytes, more: int) -> bytes:
    """A JPEG whose last scan is repeated: each repetition costs the decoder a walk over the image."""
    last = body.rindex(b"\xff\xda")
    return body[:-2] + body[last:-2] * more + body[-2:]


def large_progressive(width: int, height: int, scans: int, scan_bytes: int) -> bytes:
    """A progressive JPEG of so many first scans of all of its data."""
    data = bytes(scan_bytes)
    first = scan([1, 2, 3], 0, 0, data=data)
    return jpeg(frame(0xC2, width, height), first, *[scan([1], 1, 63, data=data)] * (scans - 1))


WANTED = frozenset({GEOMETRY})


class TestGeometry:
    def test_a_geometry_without_margin_takes_the_whole_short_side(self) -> None:
        image = photo(300, 200)
        pixels = to_pixels(encoded(image, "PNG"), Geometry(64, 64), LIMITS)
        want = image.resize((96, 64), Image.Resampling.BILINEAR).crop((16, 0, 80, 64))
        assert np.abs(pixels.astype(np.int16) - np.asarray(want, np.int16)).max() <= 1


class TestFormats:
    @pytest.mark.parametrize("name", FORMATS)
    def test_every_allowed_format_shows_the_same_picture(self, name: str) -> None:
        image = photo(320, 240)
        assert sniff(body := encoded(image, name), LIMITS).name == name
        assert difference(pixels_of(body), pixels_of(encoded(image, "PNG"))) <= (12 if name == "GIF" else 5)

    @pytest.mark.parametrize("name", ["BMP", "TIFF", "ICO", "PPM", "TGA", "PDF", "EPS", "JPEG2000", "DDS", "PCX"])
    def test_other_formats_of_the_decoder_are_not_reached(self, name: str) -> None:
        assert rejection(encoded(photo(64, 64), name)) == "unsupported_format"

    @pytest.mark.parametrize(
        "body",
        [
            b"<!doctype html><html>not found</html>",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%!PS-Adobe-3.0\n",
            b"\x00",
            b"RIFF",
            b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
            b"\xff\n\xfa",
            b"PK\x03\x04",
            b"text",
        ],
    )
    def test_what_is_no_photo_is_unsupported(self, body: bytes) -> None:
        assert rejection(body) == "unsupported_format"

    def test_no_bytes_are_an_empty_body(self) -> None:
        assert rejection(b"") == "empty_body"

    @pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
    def test_of_an_animation_the_first_frame_counts(self, name: str) -> None:
        first, second = photo(120, 90, seed=1), photo(120, 90, seed=2)
        moving = encoded(first, name, save_all=True, append_images=[second], duration=50)
        assert difference(pixels_of(moving), pixels_of(encoded(first, "PNG"))) <= 12
        assert difference(pixels_of(moving), pixels_of(encoded(second, "PNG"))) > 20

    def test_of_a_multi_picture_jpeg_the_first_picture_counts(self) -> None:
        first, second = photo(640, 480, seed=1), photo(640, 480, seed=2)
        body = encoded(first, "MPO", save_all=True, append_images=[second])
        assert difference(pixels_of(body), pixels_of(encoded(first, "PNG"))) <= 5

    def test_trailing_bytes_are_ignored(self) -> None:
        body = encoded(photo(320, 240), "JPEG")
        assert np.array_equal(pixels_of(body + b"\xff\xda<html>" * 1000), pixels_of(body))


class TestModes:
    def test_grey_has_three_equal_channels(self) -> None:
        image = photo(320, 240).convert("L")
        pixels = pixels_of(encoded(image, "PNG"))
        assert np.array_equal(pixels[..., 0], pixels[..., 1])
        assert difference(pixels, pixels_of(encoded(image.convert("RGB"), "PNG"))) == 0

    def test_one_bit_is_resized_smoothly(self) -> None:
        pixels = pixels_of(encoded(photo(1000, 1000).convert("1"), "PNG"))
        assert len(np.unique(pixels)) > 50

    @pytest.mark.parametrize("level", [0, 64, 127, 255])
    def test_sixteen_bit_grey_is_scaled_and_not_clipped_to_white(self, level: int) -> None:
        deep = Image.fromarray(np.full((64, 64), level << 8 | level, np.uint16))
        assert np.all(pixels_of(encoded(deep, "PNG")) == level)

    def test_sixteen_bit_grey_with_a_transparent_value_lies_on_white(self) -> None:
        deep = np.full((64, 64), 0x2020, np.uint16)
        deep[:, 32:] = 0x0001
        pixels = pixels_of(encoded(Image.fromarray(deep), "PNG", transparency=1))
        assert pixels[:, :100].max() == 0x20
        assert pixels[:, 124:].min() == WHITE

    def test_sixteen_bit_colour_with_a_transparent_value_lies_on_white(self) -> None:
        row = b"\0" + b"\x20\x10\x40\x10\x60\x10" * 32 + b"\xff\xfe\x00\x07\x00\x07" * 32
        clear = chunk(b"tRNS", b"\xff\xfe\x00\x07\x00\x07")
        body = png(ihdr(64, 64, bits=16), clear, chunk(b"IDAT", zlib.compress(row * 64)), IEND)
        pixels = pixels_of(body)
        assert pixels[:, :100].reshape(-1, 3).tolist()[0] == [0x20, 0x40, 0x60]
        assert pixels[:, 124:].min() == WHITE

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    @pytest.mark.parametrize("name", ["PNG", "WEBP"])
    def test_invisible_colours_do_not_show_and_do_not_bleed(self, mode: str, name: str) -> None:
        image = photo(300, 300).convert(mode)
        alpha = Image.new("L", image.size, BLACK)
        alpha.paste(WHITE, (0, 0, 150, 300))
        image.putalpha(alpha)
        colours = Image.new("RGB", image.size, (255, 255, 255))
        colours.paste(image.convert("RGB"), mask=alpha)
        pixels = pixels_of(encoded(image, name, **({"lossless": True, "exact": True} if name == "WEBP" else {})))
        assert difference(pixels, pixels_of(encoded(colours, "PNG"))) <= 0.1

    def test_half_transparency_mixes_with_white(self) -> None:
        pixels = pixels_of(encoded(Image.new("RGBA", (64, 64), (0, 100, 200, 128)), "PNG"))
        assert np.abs(pixels[0, 0].astype(int) - [127, 177, 227]).max() <= 1

    @pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255])])
    def test_a_palette_with_transparency_lies_on_white(self, transparency: int | bytes) -> None:
        image = Image.new("P", (64, 64), 0)
        image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
        image.paste(2, (32, 0, 64, 64))
        pixels = pixels_of(encoded(image, "PNG", transparency=transparency))
        assert pixels[:, :100].min() == WHITE
        assert pixels[:, 124:].reshape(-1, 3).tolist()[0] == [0, 0, 200]

    @pytest.mark.parametrize(("mode", "transparency"), [("L", 9), ("RGB", (9, 9, 9)), ("1", 0)])
    def test_a_transparent_colour_lies_on_white(self, mode: str, transparency: object) -> None:
        image = Image.new(mode, (64, 64), 0 if mode == "1" else transparency)
        assert pixels_of(encoded(image, "PNG", transparency=transparency)).min() == WHITE

    def test_a_transparent_gif_lies_on_white(self) -> None:
        image = Image.new("P", (64, 64), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        assert pixels_of(encoded(image, "GIF", transparency=1)).min() == WHITE

    def test_cmyk_without_a_profile_is_converted_by_arithmetic(self) -> None:
        image = photo(320, 240)
        body = encoded(image.convert("CMYK"), "JPEG", quality=95)
        assert difference(pixels_of(body), pixels_of(encoded(image, "JPEG", quality=95))) <= 4

    def test_cmyk_with_a_useless_profile_is_converted_by_arithmetic(self) -> None:
        image = photo(320, 240).convert("CMYK")
        rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        plain = pixels_of(encoded(image, "JPEG"))
        for profile in (b"broken", rgb_profile):
            assert np.array_equal(pixels_of(encoded(image, "JPEG", icc_profile=profile)), plain)

    def test_cmyk_goes_through_its_embedded_profile(self) -> None:
        path = next(HOSTILE.rglob("Kiara_limited_progressive_four_components.jpg"), None)
        if path is None:
            pytest.skip("no CMYK file with a profile beside the checkout")
        body = path.read_bytes()
        with Image.open(path) as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            plain = encoded(image.convert("RGB"), "PNG")
        assert difference(pixels_of(body), pixels_of(encoded(converted, "PNG"))) <= 0.1
        assert difference(pixels_of(body), pixels_of(plain)) > 4

    def test_an_rgb_profile_is_ignored_as_in_training(self) -> None:
        image = photo(320, 240)
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        assert np.array_equal(pixels_of(encoded(image, "PNG", icc_profile=profile)), pixels_of(encoded(image, "PNG")))


class TestProfiles:
    SRGB = replace(LIMITS, icc="srgb")

    @staticmethod
    def swapped() -> bytes:
        """sRGB's profile with red and green exchanged."""
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")

    def test_a_profile_decides_the_colours_where_it_is_asked_for(self) -> None:
        body = encoded(Image.new("RGB", (64, 64), (250, 10, 10)), "PNG", icc_profile=self.swapped())
        assert pixels_of(body)[0, 0].tolist() == [250, 10, 10]
        red, green, blue = pixels_of(body, self.SRGB)[0, 0].tolist()
        assert green > 200
        assert max(red, blue) < 60

    @pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
    @pytest.mark.parametrize("profile", [b"broken", b"\xff" * 200, bytes(900_000)])
    def test_a_broken_profile_counts_as_none(self, mode: str, profile: bytes) -> None:
        image = photo(64, 64).convert(mode)
        body = encoded(image, "WEBP" if mode == "RGB" else "PNG", icc_profile=profile)
        assert np.array_equal(pixels_of(body, self.SRGB), pixels_of(encoded(image, "WEBP" if mode == "RGB" else "PNG")))

    def test_the_way_through_a_profile_is_built_once(self) -> None:
        body = encoded(photo(64, 64), "PNG", icc_profile=self.swapped())
        pixels_of(body, self.SRGB)
        before = colour._transform.cache_info()
        pixels_of(body, self.SRGB)
        assert colour._transform.cache_info().hits == before.hits + 1


class TestHeic:
    BODY = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)

    def test_without_leave_the_reason_says_how_to_read_it(self) -> None:
        with pytest.raises(PhotoRejected, match=r"photo-tagger\[heic\].*prepare\.heic = true") as caught:
            pixels_of(self.BODY)
        assert caught.value.reason == "unsupported_format"

    def test_with_leave_the_photo_is_read_and_turned_once(self) -> None:
        heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
        image, exif = photo(320, 240), Image.Exif()
        exif[0x0112] = 6
        written = heif.from_pillow(image)
        buffer = io.BytesIO()
        written.save(buffer, exif=exif.tobytes(), quality=95)
        pixels = pixels_of(buffer.getvalue(), replace(LIMITS, heic=True))
        turned = image.transpose(Image.Transpose.ROTATE_270)
        assert difference(pixels, pixels_of(encoded(turned, "PNG"))) <= 5

    def test_with_leave_a_broken_file_is_corrupt(self) -> None:
        pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
        assert rejection(self.BODY, replace(LIMITS, heic=True)) == "corrupt_image"


class TestOrientation:
    @staticmethod
    def turned(image: Image.Image, orientation: int) -> Image.Image:
        """What a camera stores for this orientation, so that the viewer's turn gives the image back."""
        turns = [None, None, *TURNS.values()]
        inverse = {6: 8, 8: 6}.get(orientation, orientation)
        turn = turns[inverse]
        return image if turn is None else image.transpose(turn)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size", [(501, 374), (375, 500), (233, 400)])
    @pytest.mark.parametrize("name", ["PNG", "WEBP"])
    def test_every_orientation_of_a_photo_gives_the_same_pixels(
        self, orientation: int, size: tuple[int, int], name: str
    ) -> None:
        image = photo(*size)
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if name == "WEBP" else {}
        body = encoded(self.turned(image, orientation), name, exif=exif.tobytes(), **options)
        # Rows and columns are resized one after the other and rounded between: turned, that is not the same order.
        assert difference(pixels_of(body), pixels_of(encoded(image, "PNG"))) <= 0.2

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_every_orientation_of_a_scaled_jpeg_gives_the_same_pixels(self, orientation: int) -> None:
        image = photo(1601, 1199)
        exif = Image.Exif()
        exif[0x0112] = orientation
        body = encoded(self.turned(image, orientation), "JPEG", quality=95, exif=exif.tobytes())
        assert difference(pixels_of(body), pixels_of(encoded(image, "JPEG", quality=95))) <= 1.0

    @given(st.binary(max_size=120))
    @settings(max_examples=150, deadline=None)
    def test_broken_exif_does_not_cost_a_photo_its_tags(self, exif: bytes) -> None:
        pixels_of(SMALL_JPEG[:2] + segment(0xE1, b"Exif\0\0" + exif) + SMALL_JPEG[2:])

    @pytest.mark.parametrize("orientation", [0, 9, 65_535])
    def test_an_orientation_outside_the_standard_is_upright(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = photo(120, 80)
        assert np.array_equal(pixels_of(encoded(image, "PNG", exif=exif.tobytes())), pixels_of(encoded(image, "PNG")))


class TestGuards:
    def test_a_bomb_is_refused_by_its_header_and_costs_no_memory(self) -> None:
        body = png_header(60_000, 60_000)
        tracemalloc.start()
        assert rejection(body) == "too_many_pixels"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()

    @pytest.mark.parametrize("size", [(12_000, 10_000), (30_001, 20), (20, 30_001)])
    def test_too_many_pixels_and_too_long_sides_are_refused(self, size: tuple[int, int]) -> None:
        assert rejection(png_header(*size)) == "too_many_pixels"

    def test_the_decoder_s_own_limit_counts_as_too_many_pixels(self) -> None:
        body = png_header(20_000, 20_000)
        assert rejection(body, PrepareLimits(max_pixels=10**9)) == "too_many_pixels"

    def test_a_photo_beyond_the_decoder_s_warning_is_still_decoded(self) -> None:
        body = encoded(Image.new("1", (10_000, 9_000)), "PNG")
        assert pixels_of(body, PrepareLimits(max_pixels=10**8)).max() == BLACK

    @pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144)])
    def test_what_phones_call_50_mp_is_allowed_in_every_format(self, size: tuple[int, int]) -> None:
        stored = Stored(*size, "RGB", "RGB", transparent=False, body_bytes=5 * MIB, scale=1, squares=[160, 224])
        for form in FORMATS_READ:
            if form.name != "JPEG" and form.option is None:
                cost = form.cost(None, stored)
                header = Header(form.name, *size, "RGB", 1, 1, cost)
                assert [str(check) for check in checks(header, LIMITS) if not check.holds] == [], form.name
        pixels_of(jpeg(frame(0xC0, *size), scan([1, 2, 3], 0, 63)))

    def test_a_large_progressive_jpeg_of_ten_scans_is_allowed(self) -> None:
        header = inspect(large_progressive(8192, 6144, scans=10, scan_bytes=MIB), GEOMETRY, LIMITS)
        assert header.scans == 10
        assert all(check.holds for check in checks(header, LIMITS))

    @pytest.mark.parametrize(("scans", "reason"), [(10, "too_many_pixels"), (40, "too_many_scans")])
    def test_scans_are_blamed_only_where_they_are_many(self, scans: int, reason: str) -> None:
        body = large_progressive(8192, 6144, scans, scan_bytes=1000)
        assert rejection(body, replace(LIMITS, max_decode_cpu_s=0.4)) == reason

    def test_a_raised_limit_is_enough_for_the_largest_photos_of_phones(self) -> None:
        body = jpeg(frame(0xC0, 16_320, 12_240), scan([1, 2, 3], 0, 63))
        assert rejection(body) == "too_many_pixels"
        pixels_of(body, replace(LIMITS, max_pixels=202_000_000))

    @pytest.mark.parametrize(
        ("width", "height", "refused"), [(15, 400, True), (400, 15, True), (16, 400, False), (1, 1, True)]
    )
    def test_the_shortest_side_is_bounded(self, width: int, height: int, refused: bool) -> None:
        body = encoded(Image.new("RGB", (width, height)), "PNG")
        if refused:
            assert rejection(body) == "image_too_small"
        else:
            pixels_of(body)

    def test_a_sliver_costs_what_its_crop_costs(self) -> None:
        started = time.process_time()
        pixels_of(encoded(Image.new("RGB", (16, 30_000)), "PNG"))
        assert time.process_time() - started < 1

    def test_a_progressive_scan_bomb_is_refused(self) -> None:
        body = encoded(photo(64, 64), "JPEG", progressive=True)
        pixels_of(body)
        assert rejection(with_scans(body, 200)) == "too_many_scans"

    def test_a_sequential_scan_bomb_is_refused(self) -> None:
        # One component per scan makes a baseline file buffered and its scans repeatable, as in a progressive one.
        body = encoded(photo(64, 64), "JPEG", subsampling=0)
        split = one_component_per_scan(body)
        pixels_of(split)
        assert rejection(with_scans(split, 200)) == "too_many_scans"

    def test_scans_hidden_behind_an_end_marker_inside_a_segment_are_counted(self) -> None:
        body = with_scans(encoded(photo(64, 64), "JPEG", progressive=True), 200)
        at = body.index(b"\xff\xda")
        assert rejection(body[:at] + segment(0xFE, b"\xff\xd9") + body[at:]) == "too_many_scans"

    def test_a_thumbnail_s_scans_do_not_count(self) -> None:
        body = encoded(photo(64, 64), "JPEG", progressive=True)
        pixels_of(body[:2] + segment(0xEF, b"\xff\xda\x00\x02" * 500) + body[2:])

    def test_a_flood_of_segments_is_refused(self) -> None:
        body = encoded(photo(64, 64), "JPEG", progressive=True)
        at = body.rindex(b"\xff\xda")
        assert rejection(body[:at] + segment(0xFE, b"") * 30_000 + body[at:]) == "corrupt_image"

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF"])
    def test_a_truncated_photo_is_corrupt(self, name: str) -> None:
        body = encoded(photo(300, 200), name)
        assert rejection(body[: len(body) // 2]) == "corrupt_image"

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_bare_signature_is_corrupt(self, name: str) -> None:
        assert rejection(encoded(photo(20, 20), name)[:32]) == "corrupt_image"

    @pytest.mark.parametrize("name", FORMATS)
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_flipped_bytes_give_pixels_or_a_rejection(self, name: str, data: st.DataObject) -> None:
        body = bytearray(SEEDS[name])
        for _ in range(data.draw(st.integers(1, 8))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        one_outcome(bytes(body))

    @given(st.binary(max_size=200))
    def test_any_bytes_give_pixels_or_a_rejection(self, body: bytes) -> None:
        for start in (
            b"",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"RIFF\0\0\0\0WEBP",
            b"\0\0\0\x1cftypavif",
        ):
            one_outcome(start + body)


class TestPreparer:
    async def test_photos_become_pixels_in_threads(self) -> None:
        bodies = [encoded(photo(300, 200, seed=seed), "JPEG") for seed in range(6)]
        with Preparer(LIMITS, threads=2) as preparer:
            found = await asyncio.gather(*(preparer.prepare(WANTED, Photo("p", "u", body)) for body in bodies))
        assert all(np.array_equal(views[GEOMETRY], pixels_of(body)) for views, body in zip(found, bodies, strict=True))

    async def test_photos_count_as_being_prepared_from_their_wait_for_a_thread_to_their_end_whatever_it_is(
        self,
    ) -> None:
        with Preparer(LIMITS, threads=1) as preparer:
            bodies = [encoded(photo(300, 200), "JPEG"), b"<html>", b""]
            photos = [asyncio.create_task(preparer.prepare(WANTED, Photo("p", "u", body))) for body in bodies]
            await asyncio.sleep(0)
            assert preparer.preparing == 3
            photos[2].cancel()
            await asyncio.gather(*photos, return_exceptions=True)
            assert preparer.preparing == 0

    async def test_a_rejection_keeps_its_reason(self) -> None:
        with Preparer(LIMITS) as preparer, pytest.raises(PhotoRejected) as caught:
            await preparer.prepare(WANTED, Photo("p", "u", b"<html>"))
        assert caught.value.reason == "unsupported_format"

    async def test_a_rejection_keeps_nothing_of_the_photo(self) -> None:
        cut = encoded(photo(300, 200), "JPEG")[:2000]
        with Preparer(LIMITS) as preparer, pytest.raises(PhotoRejected) as caught:
            await preparer.prepare(WANTED, Photo("p", "u", cut))
        assert caught.value.reason == "corrupt_image"
        assert files_of(caught.value) <= {Path(__file__).name, "prepare.py"}

    @pytest.mark.parametrize("memory", [64 * MIB, 4 * MIB])
    async def test_the_bytes_of_a_photo_go_when_it_is_dropped_whatever_became_of_it(self, memory: int) -> None:
        gc.collect()
        gc.disable()
        try:
            with Preparer(replace(LIMITS, max_decode_bytes=memory)) as preparer:
                for name, size in (("JPEG", (300, 200)), ("PNG", (2600, 2000)), ("BMP", (10, 10))):
                    before = Watched.gone
                    one = Photo("p", "u", Watched(encoded(photo(*size), name)))
                    with contextlib.suppress(PhotoRejected):
                        await preparer.prepare(WANTED, one)
                    one.drop()
                    await eventually(lambda before=before: Watched.gone == before + 1)
        finally:
            gc.enable()

    async def test_a_decode_that_hangs_is_rejected_and_holds_up_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        release = threading.Event()

        def decode(body: bytes, *_: object) -> Decoded:
            if body == b"hangs":
                assert release.wait(30)
            return DECODED

        monkeypatch.setattr(preparing, "decode", decode)
        with Preparer(LIMITS, threads=1, timeout_s=0.05) as preparer:
            for overdue in (1, 2):
                with pytest.raises(PhotoRejected) as caught:
                    await preparer.prepare(WANTED, Photo("p", "u", b"hangs"))
                assert caught.value.reason == "decode_timeout"
                assert preparer.overdue == overdue
                assert (await preparer.prepare(WANTED, Photo("p", "u", b"fine"))).keys() == {GEOMETRY}
            release.set()

    async def test_waiting_for_a_thread_does_not_count_as_decoding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def decode(*_: object) -> Decoded:
            assert sum(range(2_000_000))
            return DECODED

        monkeypatch.setattr(preparing, "decode", decode)
        started = time.perf_counter()
        decode()
        one = time.perf_counter() - started
        with Preparer(LIMITS, threads=1, timeout_s=one * 6 + 0.1) as preparer:
            await asyncio.gather(*(preparer.prepare(WANTED, Photo("p", "u", b"")) for _ in range(20)))


class TestMemory:
    """Decodes that need much, with a decoder that says so and does nothing."""

    LARGE, SMALL = b"large", b"small"

    @pytest.fixture
    def running(self, monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Any]:
        """A fake decoder, and what of it runs at once."""
        seen: dict[bytes, Any] = {"now": [], "most": [], "go": threading.Event()}
        lock = threading.Lock()

        def decode(body: bytes, _geometry: Geometry, _limits: PrepareLimits, memory_bytes: int) -> Decoded:
            need = 600 * MIB if body.startswith(self.LARGE) else MIB
            if need > memory_bytes:
                raise NeedsMemory(need)
            with lock:
                seen["now"].append(need)
                seen["most"].append(sum(seen["now"]))
            seen["go"].wait(0.02)
            with lock:
                seen["now"].remove(need)
            return DECODED

        monkeypatch.setattr(preparing, "decode", decode)
        return seen

    async def test_decodes_share_the_memory_and_a_large_one_is_not_starved(self, running: dict[str, Any]) -> None:
        order: list[bytes] = []

        async def stream(preparer: Preparer, bodies: list[bytes]) -> None:
            for body in bodies:
                await preparer.prepare(WANTED, Photo("p", "u", body))
                order.append(body)

        with Preparer(LIMITS, threads=4) as preparer:
            streams = [[self.LARGE], [self.LARGE]] + [[self.SMALL] * 10] * 12
            await asyncio.gather(*(stream(preparer, bodies) for bodies in streams))
            assert preparer._memory.used == 0
        assert max(running["most"]) <= LIMITS.max_decode_bytes
        # Those that came before it are served before it, of a stream of 120; those that come later are not.
        assert [at for at, body in enumerate(order) if body == self.LARGE][1] < 100

    async def test_a_photo_beyond_all_memory_is_refused_by_its_header(self) -> None:
        limits = replace(LIMITS, max_decode_bytes=10 * MIB)
        body = encoded(photo(2000, 2000), "PNG")
        with Preparer(limits) as preparer, pytest.raises(PhotoRejected, match="max_decode_bytes") as caught:
            await preparer.prepare(WANTED, Photo("p", "u", body))
        assert caught.value.reason == "too_many_pixels"

    @pytest.mark.parametrize(("failures", "tagged"), [(1, True), (2, False)])
    async def test_out_of_memory_is_tried_once_more_alone(
        self, monkeypatch: pytest.MonkeyPatch, failures: int, tagged: bool
    ) -> None:
        given: list[int] = []

        def decode(_body: bytes, _geometry: Geometry, _limits: PrepareLimits, memory_bytes: int) -> Decoded:
            given.append(memory_bytes)
            if len(given) <= failures:
                raise MemoryError
            return DECODED

        monkeypatch.setattr(preparing, "decode", decode)
        with Preparer(LIMITS) as preparer:
            if tagged:
                await preparer.prepare(WANTED, Photo("p", "u", b""))
            else:
                with pytest.raises(MemoryError, match="not enough memory"):
                    await preparer.prepare(WANTED, Photo("p", "u", b""))
            assert preparer._memory.used == 0
        assert given == [preparing.USUAL_BYTES, LIMITS.max_decode_bytes]

    @pytest.mark.parametrize("said", ["out of memory when reading image file", "Failed to decode image: Out of memory"])
    def test_a_decoder_that_says_that_memory_ran_out_does_not_blame_the_photo(
        self, monkeypatch: pytest.MonkeyPatch, said: str
    ) -> None:
        def fails(*_: object) -> None:
            raise OSError(said)

        monkeypatch.setattr(decode, "to_rgb", fails)
        with pytest.raises(MemoryError, match=said):
            decode.decode(encoded(photo(300, 300), "PNG"), [GEOMETRY], LIMITS)

    async def test_a_cancelled_photo_keeps_its_memory_as_long_as_its_decode_runs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started, release = threading.Event(), threading.Event()

        def decode(*_: object) -> Decoded:
            started.set()
            assert release.wait(30)
            return DECODED

        monkeypatch.setattr(preparing, "decode", decode)
        with Preparer(LIMITS) as preparer:
            task = asyncio.ensure_future(preparer.prepare(WANTED, Photo("p", "u", b"")))
            await asyncio.to_thread(started.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert preparer._memory.used > 0
            release.set()
            await eventually(lambda: preparer._memory.used == 0)


class TestExplain:
    @staticmethod
    def of(body: bytes, limits: PrepareLimits = LIMITS) -> Explanation:
        return explain(body, [GEOMETRY], limits)

    def test_a_photo_that_is_tagged_shows_what_it_is_and_every_limit(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        found = self.of(encoded(photo(1200, 1000), "JPEG", exif=exif.tobytes()))
        assert (found.outcome, found.detail, found.orientation) == ("pixels", "", 6)
        assert found.header is not None
        assert (found.header.format, found.header.width, found.header.height) == ("JPEG", 1200, 1000)
        assert (found.header.mode, found.header.scale, found.header.scans) == ("RGB", 2, 1)
        assert found.header.cost.memory_bytes > 0
        assert {check.setting: check.value for check in found.checks}["max_pixels"] == 1_200_000
        assert all(check.holds for check in found.checks)

    def test_a_photo_that_is_refused_shows_the_limit_that_it_breaks(self) -> None:
        found = self.of(encoded(Image.new("L", (10_000, 6_000)), "PNG"))
        assert (found.outcome, found.orientation) == ("too_many_pixels", None)
        assert [(check.setting, check.value) for check in found.checks if not check.holds] == [
            ("max_pixels", 60_000_000)
        ]

    @pytest.mark.parametrize(("body", "reason"), [(b"", "empty_body"), (b"text", "unsupported_format")])
    def test_what_has_no_header_has_a_reason(self, body: bytes, reason: str) -> None:
        found = self.of(body)
        assert (found.outcome, found.header, found.checks) == (reason, None, ())
        assert found.detail


def one_outcome(body: bytes) -> str:
    started = time.process_time()
    try:
        pixels = to_pixels(body, GEOMETRY, LIMITS)
    except PhotoRejected as error:
        outcome = error.reason
    else:
        outcome = "pixels"
        assert pixels.shape == (224, 224, 3)
    assert time.process_time() - started < 2
    return outcome


def one_component_per_scan(body: bytes) -> bytes:
    """A one-scan JPEG whose scan header names only the first of its components."""
    at = body.index(b"\xff\xda")
    length = int.from_bytes(body[at + 2 : at + 4], "big")
    first = body[at + 5 : at + 7]
    return body[:at] + segment(0xDA, b"\x01" + first + b"\x00\x3f\x00") + body[at + 2 + length :]


DECODED = decode.decode(encoded(photo(32, 24), "JPEG"), [GEOMETRY], LIMITS)
SMALL_JPEG = encoded(photo(32, 24), "JPEG")
SEEDS = {name: encoded(photo(48, 40), name) for name in FORMATS}
