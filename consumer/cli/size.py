"""`photo-tagger sizing`: how much of everything a rate of photos needs."""

from typing import Annotated, Final

import typer

from consumer.cli.asking import answers
from consumer.cli.console import columns, echo_json, explained, out
from consumer.errors import SettingsError
from consumer.sizing import Costs, Need, size

app = typer.Typer()

_COSTS: Final = Costs()
_MANY: Final = 100


@app.command()
@answers
def sizing(
    photos_per_s: Annotated[float, typer.Option(help="photos a second, at the busiest time")],
    photos: Annotated[float, typer.Option(help="photos whose tags are kept")] = 10_000_000,
    *,
    load: Annotated[float, typer.Option(help="share of the time that anything may be busy")] = 0.7,
    days: Annotated[float, typer.Option(help="days that the upload topic keeps events")] = 7.0,
    client_ms: Annotated[float, typer.Option(help="CPU time of the service for a photo")] = _COSTS.client_ms,
    triton_ms: Annotated[float, typer.Option(help="CPU time of both models for a photo")] = _COSTS.triton_ms,
    photo_kb: Annotated[float, typer.Option(help="a photo as it is fetched, in kB")] = _COSTS.photo_bytes / 1e3,
) -> None:
    """Say how many cores, partitions, bytes and bits a rate of photos needs, and what binds first."""
    with explained():
        try:
            costs = Costs(client_ms=client_ms, triton_ms=triton_ms, photo_bytes=photo_kb * 1e3)
            found = size(photos_per_s, photos, load=load, days=days, costs=costs)
        except ValueError as error:
            raise SettingsError(str(error)) from None
    if not out.is_terminal:
        echo_json(found)
        return
    table = columns("needed", "how much", "because")
    for need in found.needs:
        table.add_row(need.what, _amount(need), need.why)
    out.print(table)
    out.print()
    table = columns("full first", "at photos/s", "then")
    for bound in found.bounds:
        table.add_row(bound.what, f"{bound.photos_per_s:,.0f}", bound.then)
    out.print(table)
    out.print()
    out.print("Costs: docs/explanation/sizing.md; measure yours with `make bench` and give them as options.")


def _amount(need: Need) -> str:
    digits = 0 if need.amount >= _MANY or need.amount == int(need.amount) else 1 if need.amount >= 1 else 3
    return f"{need.amount:,.{digits}f} {need.unit}".rstrip()
