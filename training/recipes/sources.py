"""The schema of recipes' data sources: every value typed, bounded and described."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A section of a recipe: immutable, strict, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CopiedSource(Part):
    """Photos to which code may add damaged copies."""

    damaged: Annotated[int, Field(ge=0)] = Field(
        0, description="damaged copies of every training photo; the worse the damage, the lower the copy's rating"
    )
    exposures: Share = Field(
        0.0,
        description="share of these copies that are made too dark or too bright, beside those that are so by chance",
    )
    on_white: Share = Field(
        0.0,
        description="share of the training photos that are shown on white too, as packshots: rated alike, or damaged",
    )
    terms: str = Field("", description="what the photos' authors say of their use, for the model card")


class RatedSource(CopiedSource):
    """Photos that people rated."""


class RatingsSource(RatedSource):
    """Rated photos listed in a CSV, Parquet or Excel file with a header."""

    kind: Literal["ratings"]
    path: Path = Field(description="the CSV, Parquet or Excel file")
    photos: Path | None = Field(None, description="folder of relative paths; the list's own folder by default")
    image: str = Field("image", description="column with a path or URI (file:, http:, https:)")
    rating: str = Field("rating", description="column with a rating, fractions allowed")
    scale: tuple[float, float] = Field(
        (1.0, 5.0), description="the column's worst and best rating, such as [0, 1], or [6, 1] where 1 is best"
    )
    group: str | None = Field(None, description="column whose equal values stay in one split, such as the uploader")
    split: str | None = Field(None, description="column with train, val or test; own split by default")


class AvaSource(RatedSource):
    """AVA: votes 1..10 in AVA.txt, photos named by id."""

    kind: Literal["ava"]
    path: Path = Field(description="AVA.txt")
    photos: Path = Field(description="folder with <image id>.jpg")


class KoniqSource(RatedSource):
    """KonIQ-10k: votes 1..5 in koniq10k_scores_and_distributions.csv."""

    kind: Literal["koniq10k"]
    path: Path = Field(description="koniq10k_scores_and_distributions.csv")
    photos: Path = Field(description="folder with the photos, such as 1024x768")


class SpaqSource(RatedSource):
    """SPAQ: mean opinion scores 0..100 in an Excel sheet or a CSV of it."""

    kind: Literal["spaq"]
    path: Path = Field(description="MOS and Image attribute scores.xlsx, or a CSV with the same columns")
    photos: Path = Field(description="folder TestImage")


class DamagedSource(Part):
    """Synthetic quality grades: undamaged photos with damage of known severity."""

    kind: Literal["damaged"]
    path: Path | None = Field(None, description="folder of undamaged photos; scenes drawn by code where absent")
    scenes: Annotated[int, Field(ge=0)] = Field(1600, description="drawn scenes of training; held-out splits get less")
    train: Count = Field(8000, description="damaged photos to train on")
    held_out: Count = Field(1200, description="damaged photos of val, and as many of test")
    on_white: Share = Field(0.0, description="share of the photos that is cut out and put on white, as packshots")


class UnratedSource(CopiedSource):
    """Photos that nobody rated, to train on alone: the recipe's teacher rates them and their copies."""

    kind: Literal["unrated"]
    path: Path | None = Field(None, description="folder of photos; scenes drawn by code where absent")
    scenes: Annotated[int, Field(ge=0)] = Field(400, description="drawn scenes")


class FoldersSource(Part):
    """Brand photos in folders: <path>/<brand>/**, or <path>/{train,val,test}/<brand>/**."""

    kind: Literal["folders"]
    path: Path = Field(description="the folder")
    no_logo: tuple[str, ...] = Field(
        ("no_logo", "no-logo"), description="folders whose photos show no brand, in any case"
    )


class FlickrLogosSource(Part):
    """FlickrLogos-32: list files, classes/jpg/<brand>/*, and thousands of photos without a logo."""

    kind: Literal["flickrlogos32"]
    path: Path = Field(description="folder with trainset.relpaths.txt and its like")
    no_logo_to_train: Share = Field(0.5, description="share of val's no-logo photos that moves to training")


class OpenImagesSource(Part):
    """Open Images: crops of normalised boxes."""

    kind: Literal["openimages"]
    boxes: Path = Field(description="*-annotations-bbox.csv")
    classes: Path = Field(description="class-descriptions-boxable.csv")
    photos: Path = Field(description="folder with <ImageID>.jpg")
    brands: dict[str, str] = Field(description="display name of a class: brand; classes not named are left out")
    no_logo: tuple[str, ...] = Field((), description="display names of classes that show no brand")
    margin: Share = Field(0.1, description="added to a crop on each side, as a share of the box")


class GrocerySource(Part):
    """GroceryStore: packages/<group>/<Brand-Product>/*, and other folders that show no brand."""

    kind: Literal["grocery"]
    path: Path = Field(description="folder that holds train, val or test folders, or the categories themselves")
    packages: str = Field("Packages", description="category whose product folders begin with a brand")
    two_words: tuple[str, ...] = Field(
        ("God-Morgon",), description="brands of several words; a product's brand is otherwise its first word"
    )


class ComposedSource(Part):
    """Photos composed by code, new ones in every batch: marks or look-alikes on drawn and sample scenes."""

    kind: Literal["composed"]
    marks: Literal["brands", "look-alikes"] = Field(
        "brands", description="brands: companies' marks; look-alikes: photos that all show no brand"
    )
    brands: Count = Field(10, description="how many brands there are: the demo's ten, and more of the icon set")
    scenes: Count = Field(1600, description="scenes that training composes on")
    held_out_scenes: Count = Field(350, description="scenes of val, and as many of test")
    held_out: Count = Field(2400, description="composed photos of val, and as many of test")
    share: Share = Field(1.0, description="share of every training batch that is composed")


Source = Annotated[
    RatingsSource
    | AvaSource
    | KoniqSource
    | SpaqSource
    | DamagedSource
    | UnratedSource
    | FoldersSource
    | FlickrLogosSource
    | OpenImagesSource
    | GrocerySource
    | ComposedSource,
    Field(discriminator="kind"),
]
