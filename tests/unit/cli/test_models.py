import pytest
import typer

from consumer.cli.models import _named, _reason
from consumer.releases import ModelVersion


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("3", ("photo_quality", "3")),
        ("999", ("photo_quality", "999")),
        ("007", ("photo_quality", "7")),
        ("other/3", ("other", "3")),
        ("a/b/3", ("a/b", "3")),
    ],
)
def test_a_version_is_of_the_configured_model_unless_it_names_another(text: str, named: tuple[str, str]) -> None:
    assert _named(text, "photo_quality", "--quality") == ModelVersion(*named)


@pytest.mark.parametrize("text", ["", "0", "1000", "10000", "-1", "1.5", "newest", "other/", "٣", "3 "])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="1 to 999"):
        _named(text, "photo_quality", "--quality")


def test_nothing_named_is_nothing_wished() -> None:
    assert _named(None, "photo_quality", "--quality") is None


def test_a_reason_is_one_line_that_a_release_can_hold() -> None:
    assert _reason(" sharper\n") == "sharper"
    assert _reason("a\nb") == r"a\x0ab"
    assert _reason("\udcff") == r"\udcff"
    for text in ("", "  ", "x" * 1001):
        with pytest.raises(typer.BadParameter):
            _reason(text)
