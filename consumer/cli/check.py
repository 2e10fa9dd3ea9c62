"""`photo-tagger check`: the outcome of one photo, and why."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumer import settings
from consumer.cli.asking import answers
from consumer.cli.console import Exit, echo_json, explained, out, pairs
from consumer.contract import MAX_SHORT_SIDE, Geometry

if TYPE_CHECKING:
    from consumer.imaging.preparer import Explanation
    from consumer.operations.check import Report

app = typer.Typer()


@app.command()
@answers
def check(
    target: Annotated[str, typer.Argument(metavar="FILE|URI", help="a file, or a URI as it stands in an event")],
    input_size: Annotated[
        int | None, typer.Option(help="pixels of both models' input; else Triton's", min=16, max=MAX_SHORT_SIDE)
    ] = None,
) -> None:
    """Show the outcome of one photo, and why. Exit code 8 if it is rejected, 5 if it is temporarily unavailable."""
    from consumer.operations.check import check as check_photo  # noqa: PLC0415 - `--help` must not load what decodes

    with explained():
        geometry = None if input_size is None else Geometry(input_size, input_size)
        report = asyncio.run(check_photo(settings.load(), target, geometry))
    if out.is_terminal:
        out.print(pairs(_rows(report)))
    else:
        echo_json(_plain(report))
    if report.outcome != "accepted":
        raise typer.Exit(Exit.DEPENDENCY if report.transient else Exit.REFUSED)


def _plain(report: "Report") -> dict[str, Any]:
    """The report for JSON, with whether each limit holds."""
    plain = asdict(report)
    for row, each in zip(plain["photo"]["checks"], report.photo.checks, strict=True) if report.photo else ():
        row["holds"] = each.holds
    return plain


def _rows(report: "Report") -> Iterator[tuple[str, str]]:
    yield "photo", report.target
    yield "outcome", _outcome(report)
    if report.setting is not None:
        yield ("would be allowed by" if report.outcome.endswith("_allowed") else "decided by"), report.setting
    for found in report.place.addresses:
        yield "address", f"{found.address}: {'allowed' if found.refused is None else f'refused, it is {found.refused}'}"
    if report.place.through is not None:
        yield "through", report.place.through
    if report.bytes is not None:
        yield "bytes", f"{report.bytes:,} of {report.max_bytes:,} allowed, read in {report.fetch_ms or 0:.0f} ms"
    if report.photo is not None:
        yield from _photo_rows(report.photo)
    for name, geometry in report.sizes.models.items():
        yield f"{name} sees", f"{geometry}, said by {report.sizes.said_by}"


def _photo_rows(photo: "Explanation") -> Iterator[tuple[str, str]]:
    header = photo.header
    if header is not None:
        yield "format", f"{header.format}, {header.width} x {header.height}, {header.mode}"
        yield (
            "decoding",
            f"at 1/{header.scale}, about {header.cost.memory_bytes / 1e6:,.1f} MB, {photo.decode_ms:.0f} ms",
        )
    if photo.orientation is not None:
        yield "orientation", str(photo.orientation)
    for each in photo.checks:
        yield f"prepare.{each.setting}", f"{each.value:,} of {each.limit:,}: {'holds' if each.holds else each.reason}"


def _outcome(report: "Report") -> str:
    if report.outcome == "accepted":
        return "accepted: it would be tagged"
    what = "temporarily unavailable, it would be tried again" if report.transient else "refused"
    return f"{what}: {report.outcome}: {report.detail}"
