"""The folder of a model repository as `photo-trainer publish` fills it: configurations, versions, manifests."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from consumer.contract import MAX_MODEL_VERSION
from consumer.errors import NotFound, SettingsError
from consumer.payloads import explain
from consumer.settings import Settings

_MANIFEST: Final = "MANIFEST.json"
_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GoldenPhoto:
    """A file of the version's folder, and each output that the published graph has for it, by name."""

    file: str
    outputs: Annotated[dict[str, Annotated[list[float], Field(min_length=1)]], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden photos of a version, and how far the outputs of each served file may be from theirs."""

    photos: Annotated[list[GoldenPhoto], Field(min_length=1)]
    tolerances: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What operations need of MANIFEST.json; versions that were published earlier have no golden photos."""

    files: dict[str, str]
    created_at: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    golden: Golden | None = None

    @property
    def test(self) -> dict[str, float]:
        """The figures that were measured on test photos."""
        found = self.metrics.get("test")
        pairs = found.items() if isinstance(found, dict) else ()
        return {name: float(value) for name, value in pairs if isinstance(value, int | float)}


_ADAPTER: Final = TypeAdapter(Manifest)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The folder that Triton serves, as it is mounted here, and the configuration that Triton was started with."""

    path: Path
    config_name: str

    @property
    def models(self) -> list[str]:
        """Names of the models that have this configuration.

        Raises:
            NotFound: the folder cannot be read.
        """
        return sorted(each.name for each in _entries(self.path) if self._config(each.name).is_file())

    def versions(self, model: str) -> list[int]:
        """Published versions, oldest first; none of a model that is not there.

        Raises:
            NotFound: the folder cannot be read.
        """
        folder = self.path / model
        return sorted(int(each.name) for each in _entries(folder) if _is_version(each)) if folder.is_dir() else []

    def config(self, model: str) -> str:
        """The text of a model's configuration.

        Raises:
            NotFound: it has none.
        """
        try:
            return self._config(model).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise NotFound(f"{self._config(model)} cannot be read: {error}") from None

    def manifest(self, model: str, version: int) -> Manifest:
        """The manifest of a version.

        Raises:
            NotFound: it is missing, or is none.
        """
        path = self.path / model / str(version) / _MANIFEST
        try:
            return _ADAPTER.validate_json(path.read_bytes())
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise NotFound(f"{path} is no manifest: {explain(error)}") from None

    def read(self, model: str, version: int, file: str) -> bytes:
        """The bytes of a file of a version.

        Raises:
            OSError: it cannot be read.
        """
        return (self.path / model / str(version) / file).read_bytes()

    def damaged(self, model: str, version: int, manifest: Manifest) -> list[str]:
        """Files of a version that are not, byte by byte, what was published."""
        folder = self.path / model / str(version)
        return sorted(name for name, digest in manifest.files.items() if _sha256(folder / name) != digest)

    def size_bytes(self, model: str, version: int) -> int:
        """Bytes of all files of a version."""
        folder = self.path / model / str(version)
        return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())

    def _config(self, model: str) -> Path:
        return self.path / model / "configs" / f"{self.config_name}.pbtxt"


def folder_of(settings: Settings) -> ModelFolder | None:
    """The folder that the settings name; None where they name none.

    Raises:
        SettingsError: it is no folder.
    """
    path = settings.triton.repository
    if path is None:
        return None
    if not path.is_dir():
        raise SettingsError(f"no folder {path}", setting="triton.repository")
    return ModelFolder(path, settings.triton.config_name)


def required_folder(settings: Settings) -> ModelFolder:
    """As `folder_of`.

    Raises:
        SettingsError: as `folder_of`; or the settings name none.
    """
    folder = folder_of(settings)
    if folder is None:
        raise SettingsError(
            "set it to the folder that Triton serves, such as /path/to/triton_models", setting="triton.repository"
        )
    return folder


def _entries(folder: Path) -> list[Path]:
    """What is in a folder.

    Raises:
        NotFound: it cannot be read.
    """
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise NotFound(f"{folder} cannot be read: {error.strerror}") from None


def _is_version(path: Path) -> bool:
    name = path.name
    return (
        path.is_dir()
        and name.isascii()
        and name.isdecimal()
        and not name.startswith("0")
        and (len(name) <= len(str(MAX_MODEL_VERSION)))
    )


def _sha256(path: Path) -> str:
    """Hex digest of a file; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
