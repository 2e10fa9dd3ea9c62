"""The studies by name. Importing them loads neither torch nor scikit-learn."""

from importlib import import_module
from importlib.util import find_spec
from typing import Final

from training.errors import RecipeError
from training.studies.study import Study

#: In the order of their checklists.
_PACKAGES: Final = ("grades", "flickrlogos32", "bottleneck", "openimages", "feed")


def _found() -> dict[str, Study]:
    packages = (f"training.studies.{name}" for name in _PACKAGES)
    studies = [import_module(package).STUDY for package in packages if find_spec(package)]
    return {study.name: study for study in studies}


STUDIES: Final[dict[str, Study]] = _found()


def study_of(name: str) -> Study:
    """The study of a name.

    Raises:
        RecipeError: There is none.
    """
    if name not in STUDIES:
        raise RecipeError(f"no study {name}; there are {', '.join(STUDIES)}")
    return STUDIES[name]
