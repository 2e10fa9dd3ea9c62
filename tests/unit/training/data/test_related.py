"""What a test photo shares with training, found for splits of any origin."""

from dataclasses import replace

import pytest

from training.data.photos import Photo
from training.data.related import related

KNOWN = Photo("a", "/p/acme/IMG_0100.jpg", "p", dhash=0xF0F0_F0F0_F0F0_F0F0, taken=6.3e10, metadata={"Uploader": "eve"})
STRANGER = Photo("b", "/p/acme/IMG_0900.jpg", "p", dhash=0x0F0F_0F0F_0F0F_0F0F, taken=6.4e10)


@pytest.mark.parametrize(
    ("changed", "shared"),
    [
        ({}, ()),
        ({"dhash": KNOWN.dhash ^ 0xFF}, ("looks",)),
        ({"dhash": KNOWN.dhash ^ 0x1FF}, ()),
        ({"dhash": 0}, ()),
        ({"taken": 6.3e10 + 60}, ("moment",)),
        ({"taken": 6.3e10 - 61}, ()),
        ({"taken": None}, ()),
        ({"taken": 6.3e10, "source": "q"}, ()),
        ({"uri": "/p/acme/IMG_0103.jpg"}, ("series",)),
        ({"uri": "/p/acme/IMG_0097.png"}, ("series",)),
        ({"uri": "/p/acme/IMG_0104.jpg"}, ()),
        ({"uri": "/p/acme/DSC_0101.jpg"}, ()),
        ({"uri": "/p/bolt/IMG_0101.jpg"}, ()),
        ({"uri": "/p/acme/photo.jpg"}, ()),
        ({"metadata": {"uploader": "eve"}}, ("uploader",)),
        ({"metadata": {"uploader": "Eve"}}, ()),
        ({"metadata": {"camera": "eve"}}, ()),
        ({"uri": "/p/acme/IMG_0101.jpg", "taken": 6.3e10}, ("moment", "series")),
        ({"uri": "scene:test/0/101", "taken": 6.3e10}, ()),
    ],
)
def test_a_test_photo_shares_what_a_person_would_say_it_does(
    changed: dict[str, object], shared: tuple[str, ...]
) -> None:
    photo = replace(STRANGER, **changed)  # type: ignore[arg-type]
    assert related([photo], [KNOWN]) == [shared]
    assert related([photo], []) == [()]


def test_photos_of_a_group_share_it_and_drawn_photos_share_nothing() -> None:
    known = replace(KNOWN, group="user 1")
    assert related([replace(STRANGER, group="user 1"), STRANGER], [known]) == [("uploader",), ()]
    assert related([STRANGER], [Photo("c", "composed:0", "c", dhash=STRANGER.dhash)]) == [()]
