from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from consumer import versions
from consumer.events import MAX_REVISION, PhotoDeleted, PhotoUploaded

contents = st.integers(0, MAX_REVISION)
releases = st.integers(0, 999_998)
runs = st.integers(0, MAX_REVISION)
written = st.tuples(contents, releases, runs)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upload(revision: int | None = None, time_ms: int = 0) -> PhotoUploaded:
    return PhotoUploaded("p", "https://h/p", EPOCH + timedelta(milliseconds=time_ms), revision)


def deletion(revision: int | None = None, time_ms: int = 0) -> PhotoDeleted:
    return PhotoDeleted("p", EPOCH + timedelta(milliseconds=time_ms), revision)


def text_of(content: int, release: int, run: int) -> str:
    return versions.version_of(upload(content), release, run)


@given(written, written)
def test_the_order_of_the_texts_is_the_order_of_content_then_release_then_run(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    assert (text_of(*one) < text_of(*other)) == (one < other)
    assert (text_of(*one) == text_of(*other)) == (one == other)


@given(written)
def test_every_version_has_the_same_length_and_only_digits_and_points(one: tuple[int, int, int]) -> None:
    text = text_of(*one)
    assert len(text) == 34
    assert [len(part) for part in text.split(".") if part.isdecimal() and part.isascii()] == [13, 6, 13]


@given(written)
def test_a_version_names_its_release_and_a_deletion_none(one: tuple[int, int, int]) -> None:
    assert versions.release_in(text_of(*one)) == one[1]
    assert versions.release_in(versions.tombstone_of(deletion(one[0]))) is None


@given(st.integers(0, MAX_REVISION - 1), releases, st.integers(0, MAX_REVISION - 1))
def test_a_tombstone_is_above_every_rescoring_of_its_content_and_below_the_next_upload(
    revision: int, release: int, run: int
) -> None:
    tombstone = versions.tombstone_of(deletion(revision))
    assert versions.version_of(upload(revision), release, run) < tombstone
    assert tombstone < versions.version_of(upload(revision + 1), 0)


@given(st.integers(0, MAX_REVISION - 1), releases)
def test_without_revisions_the_time_of_deletion_decides_to_the_millisecond(time_ms: int, release: int) -> None:
    tombstone = versions.tombstone_of(deletion(time_ms=time_ms))
    assert versions.version_of(upload(time_ms=time_ms), release) < tombstone
    assert tombstone < versions.version_of(upload(time_ms=time_ms + 1), 0)


@given(contents, st.integers(0, MAX_REVISION - 1))
def test_a_revision_goes_before_the_time(revision: int, time_ms: int) -> None:
    assert versions.version_of(upload(revision, time_ms), 1) == versions.version_of(upload(revision), 1)
    assert versions.tombstone_of(deletion(revision, time_ms)) == versions.tombstone_of(deletion(revision))


def test_revision_zero_is_a_revision() -> None:
    assert versions.version_of(upload(0, 5), 1).startswith("0000000000000.")


def test_the_same_content_judged_under_the_same_release_has_the_same_version() -> None:
    assert versions.version_of(upload(7), 3_007) == "0000000000007.003007.0000000000000"


@given(st.integers(-(10**15), 10**15))
def test_times_outside_the_range_keep_the_width(time_ms: int) -> None:
    assert 0 <= versions.content_revision(None, time_ms) <= MAX_REVISION
    assert versions.content_revision(None, time_ms) == max(0, min(time_ms, MAX_REVISION))


@given(written)
def test_what_deletes_a_content_is_the_same_from_its_version_as_from_its_event(one: tuple[int, int, int]) -> None:
    assert versions.above_rescorings(text_of(*one)) == versions.tombstone_of(deletion(one[0]))
